"""A receiver of format native, for Python 3.8 and its standard library: receiver.py 127.0.0.1:9000 secret-file"""
import base64, hashlib, hmac, http.server, json, sys, threading, time

host, port = sys.argv[1].rsplit(":", 1)
key = base64.b64decode(open(sys.argv[2]).read().strip()[len("whsec_"):])
known, lock = {}, threading.Lock()  # by alarm: the newest revision that was handled


def handle(alarm, affected):  # yours: switch over. When it fails nothing is answered, and the notification comes again.
    print(alarm["state"], alarm["id"], alarm["revision"], [d["resource"] + " " + d["state"] for d in affected], flush=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so that the connection stays open: the next fault does not wait for one

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers["Content-Length"]), 16 << 20))
        at, given = self.headers.get("webhook-timestamp", ""), self.headers.get("webhook-signature", "")
        message = f"{self.headers.get('webhook-id')}.{at}.".encode() + body
        want = b"v1," + base64.b64encode(hmac.new(key, message, hashlib.sha256).digest())
        signed = any([hmac.compare_digest(want, s.encode()) for s in given.split()])  # two of them while a secret changes
        if not signed or abs(time.time() - int(at)) > 300:
            return self.answer(401)
        data = json.loads(body)["data"]
        if data["notification"] == "verification":  # is this wanted? Yes.
            return self.answer(200, json.dumps({"challenge": data["challenge"]}).encode())
        if data["notification"] == "fault":
            alarm, revision = data["alarm"], [int(n) for n in data["alarm"]["revision"].split(".")]
            with lock:
                if revision > known.get(alarm["id"], [0, 0]):  # else it came before, maybe from another host
                    handle(alarm, data["affected"])
                    known[alarm["id"]] = revision
        self.answer(204)

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer((host, int(port)), Receiver)
print("listening on %s:%d" % server.server_address, flush=True)
server.serve_forever()
