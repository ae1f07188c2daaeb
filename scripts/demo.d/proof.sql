-- Run on the restored server: one line for each claim, with the number of rows that were looked at
-- and of those that break it. See shop.sql for why this needs no other copy.

SET NAMES utf8mb4;
USE shop;

SELECT 'every customer and product is as it was made', COUNT(*),
  40000 - COUNT(*) + SUM(broken) FROM (
    SELECT notes <> REPEAT(MD5(id), 8) OR mail <> CONCAT('c', id, '@example.org') AS broken
    FROM customers
    UNION ALL
    SELECT description <> REPEAT(SHA1(id), 8) OR price_cents <> 100 + id * 37 MOD 9900
    FROM products) AS rows_of_both;

SELECT 'order numbers have no gap', SUM(had), SUM(last - had) FROM (
  SELECT COUNT(*) AS had, MAX(number) AS last FROM orders GROUP BY till) AS tills;

SELECT 'every order is as it was placed', COUNT(*),
  SUM(token <> token_of(till, number, 0) OR customer <> 1 + number MOD 20000) FROM orders;

SELECT 'every order has its three lines: no transaction is torn', COUNT(*),
  SUM(line_count <> 3) FROM (
    SELECT COUNT(order_lines.line) AS line_count
    FROM orders LEFT JOIN order_lines USING (till, number) GROUP BY till, number) AS counted;

SELECT 'every line is as it was placed, and has its order', COUNT(*),
  SUM(orders.number IS NULL OR order_lines.token <> token_of(till, number, line)
      OR product <> product_of(till, number, line) OR quantity <> 1 + (number + line) MOD 3)
  FROM order_lines LEFT JOIN orders USING (till, number);

SELECT 'stock is what there was less what was sold', COUNT(*),
  20000 - COUNT(*) + SUM(stock.quantity <> 1000 - COALESCE(sold, 0)) FROM stock
  LEFT JOIN (SELECT product, SUM(quantity) AS sold FROM order_lines GROUP BY product) AS sales
    USING (product);
