"""Runs on the lab's client: a visitor and an editor of the site. Prints JSON.

    visitor.py login JAR                      logs in; cookies go to the file JAR; the password comes by stdin
    visitor.py post JAR TITLE                 writes a post; prints its id
    visitor.py upload JAR NAME                uploads a picture; prints its address
    visitor.py get PATH [JAR]                 any page
"""

import base64
import http.cookiejar
import json
import ssl
import sys
import urllib.parse
import urllib.request

SITE = "https://www.lab.test"
# One white pixel.
PICTURE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII=")


def opener(jar_file=None):
    jar = http.cookiejar.MozillaCookieJar(jar_file)
    try:
        jar.load(ignore_discard=True)
    except (OSError, TypeError, ValueError):
        pass
    context = ssl.create_default_context(cafile="/opt/lab/ca.pem")
    return jar, urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(jar), urllib.request.HTTPSHandler(context=context)
    )


def call(url, jar_file=None, data=None, headers=None, method=None):
    jar, web = opener(jar_file)
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    try:
        with web.open(request, timeout=30) as answer:
            status, body, final = answer.status, answer.read(), answer.url
    except urllib.error.HTTPError as error:
        status, body, final = error.code, error.read(), url
    if jar_file:
        jar.save(jar_file, ignore_discard=True)
    return status, body, final


def login(jar_file):
    call(f"{SITE}/wp-login.php", jar_file)
    form = {"log": "admin", "pwd": sys.stdin.read().strip(), "testcookie": "1", "redirect_to": f"{SITE}/wp-admin/"}
    status, body, final = call(f"{SITE}/wp-login.php", jar_file, urllib.parse.urlencode(form).encode())
    return {"status": status, "url": final, "is_in": "/wp-admin/" in final and b"wp-admin-bar" in body}


def nonce(jar_file):
    return call(f"{SITE}/wp-admin/admin-ajax.php?action=rest-nonce", jar_file)[1].decode()


def post(jar_file, title):
    body = json.dumps({"title": title, "content": f"<p>{title}</p>", "status": "publish"}).encode()
    headers = {"Content-Type": "application/json", "X-WP-Nonce": nonce(jar_file)}
    status, answer, _ = call(f"{SITE}/wp-json/wp/v2/posts", jar_file, body, headers, "POST")
    return {"status": status, "id": json.loads(answer).get("id"), "answer": answer[:200].decode()}


def upload(jar_file, name):
    headers = {
        "Content-Type": "image/png", "Content-Disposition": f'attachment; filename="{name}"',
        "X-WP-Nonce": nonce(jar_file),
    }
    status, answer, _ = call(f"{SITE}/wp-json/wp/v2/media", jar_file, PICTURE, headers, "POST")
    return {"status": status, "url": json.loads(answer).get("source_url"), "answer": answer[:200].decode()}


def get(path, jar_file=None):
    status, body, final = call(path if path.startswith("https:") else SITE + path, jar_file or None)
    return {"status": status, "url": final, "body": body.decode(errors="replace")}


print(json.dumps({"login": login, "post": post, "upload": upload, "get": get}[sys.argv[1]](*sys.argv[2:])))
