"""A stand-in for the Hugging Face hub: the requests that huggingface_hub makes."""

import base64
import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

TOKEN = "hf_stand_in"


class Hub(ThreadingHTTPServer):
    """Repos in memory.

    Attributes:
      repos: content of each file by path, by "USER/NAME".
      requests: method and path of every request.
      declared: sizes that the hub claims instead of the true ones, by ("USER/NAME", path).
      endless: ("USER/NAME", path) of files that are sent without an end.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos, self.blobs, self.requests = {}, {}, []
        self.declared, self.endless = {}, set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def commit(self, name):
        """The hash of a repo's content."""
        content = sorted((path, _digest(data)) for path, data in self.repos[name].items())
        return hashlib.sha1(repr(content).encode()).hexdigest()


def _digest(data):
    return hashlib.sha256(data).hexdigest()


def _is_lfs(path):
    return path.endswith((".safetensors", ".png", ".onnx", ".parquet"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def _route(self):
        self.server.requests.append((self.command, self.path))
        path = self.path.partition("?")[0]
        for pattern, method in _ROUTES:
            command, _, pattern = pattern.partition(" ")
            if (found := re.fullmatch(pattern, path)) and self.command in command.split("|"):
                return getattr(self, method)(*found.groups())
        return self._answer(404, {"error": f"no route {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _route

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status, content=b"", **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": len(data)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _may_write(self):
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._body()
        self._answer(401, {"error": "Invalid username or password."})
        return False

    def _repo(self, name):
        if name not in self.server.repos:
            self._body()
            self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        return self.server.repos.get(name)

    def create(self):
        if not self._may_write():
            return
        body = json.loads(self._body())
        name = f"{body.get('organization') or 'user'}/{body['name']}"
        status = 409 if name in self.server.repos else 200
        self.server.repos.setdefault(name, {})
        self._answer(status, {"url": f"{self.server.url}/{name}"})

    def validate_yaml(self):
        front = json.loads(self._body())["content"].split("---\n")[1]
        known = isinstance(yaml.safe_load(front), dict)
        errors = [] if known else [{"message": "no front matter"}]
        self._answer(200 if known else 400, {"errors": errors, "warnings": []})

    def preupload(self, name):
        if not self._may_write() or self._repo(name) is None:
            return
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if _is_lfs(file["path"]) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self._body())["files"]
        ]
        self._answer(200, {"files": files})

    def lfs_batch(self, name):
        if not self._may_write() or self._repo(name) is None:
            return
        objects = [
            each | {"actions": {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}}
            for each in json.loads(self._body())["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def put_blob(self, oid):
        data = self._body()
        self.server.blobs[oid] = data
        self._answer(200 if _digest(data) == oid else 400)

    def make_commit(self, name):
        if not self._may_write() or self._repo(name) is None:
            return
        for line in self._body().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                self.server.repos[name][value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                self.server.repos[name][value["path"]] = self.server.blobs[value["oid"]]
        commit = self.server.commit(name)
        url = f"{self.server.url}/{name}/commit/{commit}"
        self._answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def info(self, name):
        if (repo := self._repo(name)) is not None:
            siblings = [
                {"rfilename": path, "size": self.server.declared.get((name, path), len(data))}
                for path, data in repo.items()
            ]
            self._answer(200, {"id": name, "sha": self.server.commit(name), "siblings": siblings})

    def tree(self, name, folder=None):
        if (repo := self._repo(name)) is None:
            return
        prefix = f"{folder}/" if folder else ""
        below = [path for path in repo if path.startswith(prefix)]
        if folder and not below:
            self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        elif "recursive=false" in self.path:
            nested = [path[len(prefix) :].split("/") for path in below]
            folders = dict.fromkeys(prefix + parts[0] for parts in nested if len(parts) > 1)
            files = [path for path in below if "/" not in path[len(prefix) :]]
            self._answer(200, [*map(_folder, folders), *(_file(repo, path) for path in files)])
        else:
            self._answer(200, [_file(repo, path) for path in below])

    def paths_info(self, name):
        if (repo := self._repo(name)) is None:
            return
        body = self._body()
        try:
            paths = json.loads(body)["paths"]
        except ValueError:
            paths = urllib.parse.parse_qs(body.decode())["paths"]
        found = [_file(repo, path) for path in paths if path in repo]
        found += [_folder(path) for path in paths if any(p.startswith(f"{path}/") for p in repo)]
        self._answer(200, found)

    def resolve(self, name, path):
        if (repo := self._repo(name)) is None:
            return
        path = urllib.parse.unquote(path)
        if path not in repo:
            self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            return
        data, etag = repo[path], _digest(repo[path])
        if (name, path) in self.server.endless and self.command == "GET":
            self._send_without_end()
            return
        # Also what the hub sends for files in Xet storage, of which this one has none.
        headers = {
            "ETag": f'"{etag}"',
            "X_Repo_Commit": self.server.commit(name),
            "X_Xet_Hash": etag,
            "X_Xet_Refresh_Route": f"{self.server.url}/xet",
        }
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            headers["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
            self._answer(206, data[first : last + 1], **headers)
        else:
            self._answer(200, data, **headers)

    def _send_without_end(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):  # Until the client hangs up.
            while True:
                self.wfile.write(b"100000\r\n" + bytes(2**20) + b"\r\n")


def _folder(path):
    return {"type": "directory", "path": path, "size": 0, "oid": _digest(path.encode())[:40]}


def _file(repo, path):
    data = repo[path]
    lfs = {"oid": _digest(data), "size": len(data), "pointerSize": 130}
    entry = {"type": "file", "path": path, "size": len(data), "oid": _digest(data)[:40]}
    return entry | ({"lfs": lfs} if _is_lfs(path) else {})


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    ("POST /api/repos/create", "create"),
    ("POST /api/validate-yaml", "validate_yaml"),
    (rf"POST /api/models/{_NAME}/preupload/main", "preupload"),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", "lfs_batch"),
    (r"PUT /lfs/(\w{64})", "put_blob"),
    (rf"POST /api/models/{_NAME}/commit/main", "make_commit"),
    (rf"GET /api/(?:models|datasets)/{_NAME}(?:/revision/\w+)?", "info"),
    (rf"GET /api/(?:models|datasets)/{_NAME}/tree/\w+(?:/(.+))?", "tree"),
    (rf"POST /api/datasets/{_NAME}/paths-info/\w+", "paths_info"),
    (rf"GET|HEAD /(?:datasets/)?{_NAME}/resolve/\w+/(.+)", "resolve"),
]
