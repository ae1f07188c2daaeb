"""Runs on a host of the lab and asks, again and again, until its time is over; prints what it found as JSON.

    prober.py site SECONDS     the site, over TLS, a new connection each time
    prober.py rows SECONDS     writes a row through the front of the database, a new connection each time
    prober.py held SECONDS     the same over one connection, made anew when it is cut
    prober.py whoami           the address of the database that answers the writer's front
"""

import json
import socket
import ssl
import sys
import time

SITE, EDGE, FRONT = "www.lab.test", "10.203.1.10", "10.203.2.10"
PAUSE = 0.05


def ask_site(_number):
    context = ssl.create_default_context(cafile="/opt/lab/ca.pem")
    with socket.create_connection((EDGE, 443), timeout=1) as plain:
        plain.settimeout(1)
        with context.wrap_socket(plain, server_hostname=SITE) as stream:
            stream.sendall(f"GET /healthz HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while part := stream.recv(4096):
                answer += part
    if b" 200 " not in answer.split(b"\r\n", 1)[0] or b"ok web" not in answer:
        raise OSError(f"answer {answer[:60]!r}")


def connect():
    import pymysql

    with open("/opt/lab/database.json", encoding="utf-8") as file:
        account = json.load(file)
    return pymysql.connect(
        host=FRONT, port=3306, user=account["user"], password=account["password"], database="wordpress",
        connect_timeout=2, read_timeout=3, write_timeout=3, autocommit=True,
    )


def write_row(number):
    connection = connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO lab_rows (id, run) VALUES (%s, %s)", (number, RUN))
    finally:
        connection.close()


held = None


def write_held(number):
    global held
    if held is None:
        held = connect()
    try:
        with held.cursor() as cursor:
            cursor.execute("INSERT INTO lab_rows (id, run) VALUES (%s, %s)", (number, RUN))
    except Exception:
        held = None
        raise


def probe(ask, seconds):
    began = last_good = time.monotonic()
    asked, failed, gap, errors, done, cuts = 0, 0, 0.0, {}, [], 0
    was_good = True
    while time.monotonic() - began < seconds:
        asked += 1
        try:
            ask(asked)
            now = time.monotonic()
            gap = max(gap, now - last_good)
            last_good, was_good = now, True
            done.append(asked)
        except Exception as error:  # whatever it is, it is no service
            failed += 1
            cuts += was_good
            was_good = False
            text = f"{type(error).__name__}: {error}"[:90]
            errors[text] = errors.get(text, 0) + 1
        time.sleep(PAUSE)
    gap = max(gap, time.monotonic() - last_good)
    print(json.dumps({"asked": asked, "failed": failed, "gap": round(gap, 2), "cuts": cuts, "errors": errors,
                      "run": RUN, "done": done}))


RUN = str(time.time_ns())
if sys.argv[1] == "whoami":
    with connect().cursor() as cursor:
        cursor.execute("SELECT @@wsrep_node_address")
        print(cursor.fetchone()[0])
else:
    probe({"site": ask_site, "rows": write_row, "held": write_held}[sys.argv[1]], float(sys.argv[2]))
