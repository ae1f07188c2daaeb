-- The shop of the demo. Everything in it follows from its keys, so that any copy can be proved
-- without another one: a token is a digest of its key, and what is in stock is what there was less
-- what the orders took.

SET NAMES utf8mb4;
CREATE DATABASE shop CHARACTER SET utf8mb4;
USE shop;

CREATE TABLE customers (
  id INT PRIMARY KEY, name VARCHAR(80), mail VARCHAR(80), since DATE, notes VARCHAR(400), KEY (mail)
);
CREATE TABLE products (
  id INT PRIMARY KEY, name VARCHAR(80), price_cents INT, description VARCHAR(400)
);
CREATE TABLE stock (
  product INT PRIMARY KEY, quantity INT NOT NULL
);
CREATE TABLE orders (
  till INT, number INT, customer INT, placed DATETIME(6), token CHAR(32),
  PRIMARY KEY (till, number), KEY (customer)
);
CREATE TABLE order_lines (
  till INT, number INT, line INT, product INT, quantity INT, token CHAR(32),
  PRIMARY KEY (till, number, line)
);

INSERT INTO customers
  SELECT seq, CONCAT('Customer ', seq), CONCAT('c', seq, '@example.org'),
         DATE('2020-01-01') + INTERVAL seq MOD 2000 DAY, REPEAT(MD5(seq), 8)
  FROM seq_1_to_20000;
INSERT INTO products
  SELECT seq, CONCAT('Product ', seq), 100 + seq * 37 MOD 9900, REPEAT(SHA1(seq), 8)
  FROM seq_1_to_20000;
INSERT INTO stock SELECT seq, 1000 FROM seq_1_to_20000;

DELIMITER //

-- Each till sells products of its own (odd, even), so that they never wait for each other.
CREATE FUNCTION product_of(till INT, number INT, line INT) RETURNS INT DETERMINISTIC
  RETURN 2 * (CRC32(CONCAT_WS('/', till, number, line)) MOD 10000) + till //
CREATE FUNCTION token_of(till INT, number INT, line INT) RETURNS CHAR(32) DETERMINISTIC
  RETURN MD5(CONCAT_WS('/', till, number, line)) //

-- One customer at one till: an order, its three lines and the stock, in one transaction. The number
-- is said after COMMIT.
CREATE PROCEDURE sell(this_till INT)
BEGIN
  DECLARE this_line INT DEFAULT 1;
  SET @number =
    COALESCE(@number, (SELECT COALESCE(MAX(number), 0) FROM orders WHERE till = this_till)) + 1;
  START TRANSACTION;
  INSERT INTO orders VALUES
    (this_till, @number, 1 + @number MOD 20000, NOW(6), token_of(this_till, @number, 0));
  WHILE this_line <= 3 DO
    INSERT INTO order_lines VALUES
      (this_till, @number, this_line, product_of(this_till, @number, this_line),
       1 + (@number + this_line) MOD 3, token_of(this_till, @number, this_line));
    UPDATE stock SET quantity = quantity - (1 + (@number + this_line) MOD 3)
      WHERE product = product_of(this_till, @number, this_line);
    SET this_line = this_line + 1;
  END WHILE;
  COMMIT;
  SELECT @number;
END //

-- The past: orders of both tills, in two large transactions.
CREATE PROCEDURE sell_before(how_many INT)
BEGIN
  INSERT INTO orders
    SELECT till.seq, number.seq, 1 + number.seq MOD 20000, NOW(6), token_of(till.seq, number.seq, 0)
    FROM seq_1_to_2 AS till JOIN seq_1_to_1000000 AS number WHERE number.seq <= how_many;
  INSERT INTO order_lines
    SELECT till, number, line.seq, product_of(till, number, line.seq),
           1 + (number + line.seq) MOD 3, token_of(till, number, line.seq)
    FROM orders JOIN seq_1_to_3 AS line;
  UPDATE stock
    JOIN (SELECT product, SUM(quantity) AS sold FROM order_lines GROUP BY product) AS sales
      USING (product)
    SET stock.quantity = stock.quantity - sales.sold;
END //

DELIMITER ;

CALL sell_before(10000);
