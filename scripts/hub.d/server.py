"""A Hub on loopback, as far as clients that read models see it: the list of a model's files, their heads, and large files that lie on
another host, which must not see anybody's token."""
import hashlib
import http.server
import json
import ssl
import threading
import urllib.parse

TOKEN = "hf_of_nobody"


class Model:
    """The files of a model, by path; `large` ones lie elsewhere, as git-lfs has them."""

    def __init__(self, files, private=False):
        self.files, self.private = files, private
        self.commit = hashlib.sha1(repr(sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items())).encode()).hexdigest()

    def is_large(self, path):
        return path.endswith((".safetensors", ".bin"))

    def etag(self, path):
        data = self.files[path]
        return hashlib.sha256(data).hexdigest() if self.is_large(path) else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def listing(self, name):
        siblings = []
        for path, data in self.files.items():
            entry = {"rfilename": path, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if self.is_large(path):
                entry["lfs"] = {"sha256": self.etag(path), "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        return {"_id": "0", "id": name, "modelId": name, "sha": self.commit, "private": self.private, "tags": [], "siblings": siblings}


class Hub:
    """`models` by name; `asked` are the requests so far: host, path, whether with a token."""

    def __init__(self, certificate, key):
        self.models, self.asked, self.revisions = {}, [], {}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.servers = []
        for handler in (self.hub_handler(), self.store_handler()):
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.servers.append(server)
        self.address = f"https://localhost:{self.servers[0].server_port}"
        # Another name is another host.
        self.store = f"https://127.0.0.1:{self.servers[1].server_port}"

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def data(self, hash):
        return next(data for model in self.models.values() for data in model.files.values() if hashlib.sha256(data).hexdigest() == hash)

    def base(hub, host):
        class Base(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def note(self):
                hub.asked.append((host, self.path, self.headers.get("Authorization")))

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self):
                self.do_GET()

        return Base

    def hub_handler(hub):
        class Handler(hub.base("hub")):
            def do_GET(self):
                self.note()
                path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/")
                parts = urllib.parse.urlsplit(self.path).path.strip("/").split("/")
                parts = [urllib.parse.unquote(part) for part in parts]
                is_list = path.startswith("api/models/")
                name = "/".join(parts[2:4] if is_list else parts[:2])
                model = hub.models.get(name)
                may = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                if model is None or (model.private and not may):
                    self.answer(401, b'{"error":"Invalid username or password."}', X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
                    return
                revision = (parts[5] if len(parts) > 5 else "main") if is_list else parts[3]
                if revision not in ("main", model.commit, *hub.revisions.get(name, ())):
                    self.answer(404, b"{}", X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
                    return
                if is_list:
                    self.answer(200, json.dumps(model.listing(name)).encode(), Content_Type="application/json")
                    return
                file = "/".join(parts[4:])
                if file not in model.files:
                    self.answer(404, b"Entry not found", X_Error_Code="EntryNotFound", X_Error_Message="Entry not found", X_Repo_Commit=model.commit)
                    return
                common = {"X_Repo_Commit": model.commit, "Accept_Ranges": "bytes"}
                if model.is_large(file):
                    hash = model.etag(file)
                    self.answer(302, b"Found", **common, ETag=f'"{hash[:32]}"', X_Linked_Etag=f'"{hash}"',
                                X_Linked_Size=str(len(model.files[file])), Location=f"{hub.store}/blobs/{hash}?X-Amz-Signature=1")
                else:
                    self.answer(200, model.files[file], **common, ETag=f'"{model.etag(file)}"')

        return Handler

    def store_handler(hub):
        class Handler(hub.base("store")):
            def do_GET(self):
                self.note()
                data = hub.data(urllib.parse.urlsplit(self.path).path.rsplit("/", 1)[-1])
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
                if start:
                    self.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}", ETag='"1"')
                else:
                    self.answer(200, data, ETag='"1"')

        return Handler
