#!/usr/bin/env python3
"""Restores a backup without Holdfast: needs Python 3.9, the programs `age` and `zstd`, and your age identity.

    recover.py DEPOT --identity key.txt --list
    recover.py DEPOT --identity key.txt --latest --job site --target /srv/restored
    recover.py DEPOT --identity key.txt --snapshot ID --target /srv/restored --path wp-content/uploads

DEPOT is a directory: mount the depot, or copy it first (`rclone copy`, `sftp -r`, `aws s3 sync`).
It writes only into TARGET, which must be empty or new. The format is in format.md, the steps by hand in
recover-by-hand.md. Every pack is checked against its SHA-256, and all content was authenticated by age. The keyed
BLAKE3 names of single blocks are not checked: Python has no BLAKE3.

Exit: 0 done, 1 failed, 2 wrong usage, 3 done but for the files named on standard error.
"""
import argparse, base64, bisect, concurrent.futures, fnmatch, grp, hashlib, json, math, os, pwd, re
import struct, subprocess, sys

RECORD = struct.Struct("<IQII")  # number of the file, offset in it, offset in the pack's payload, stored length
BATCH = 64 << 20                 # no more than this is decompressed in one go


def fail(text, code=1):
    sys.exit(print(f"error: {text}", file=sys.stderr) or code)


# ---- the depot ----

def candidates(depot, name):
    """The object and its repetitions `.1` to `.9` after torn uploads, as far as they are there."""
    paths = [os.path.join(depot, name + (f".{n}" if n else "")) for n in range(10)]
    return [path for path in paths if os.path.isfile(path)]


def snapshots(depot):
    """Ids of all backups, oldest first: a backup exists if its manifest does."""
    names = (re.fullmatch(r"(.+?--(\d{8}T\d{6}Z)--.+)\.age(\.\d)?", n)
             for n in os.listdir(os.path.join(depot, "snapshot")))
    return [i for _, i in sorted({(m[2], m[1]) for m in names if m})]


def find_manifest(depot, snapshot):
    """The whole candidate of a manifest. The needs list knows its checksum; without one the largest is taken."""
    found = candidates(depot, f"snapshot/{snapshot}.age") or fail(f"there is no backup {snapshot}")
    for needs in candidates(depot, f"snapshot/{snapshot}.needs"):
        with open(needs, errors="replace") as text:
            known = re.search(r"^manifest ([0-9a-f]{64}) (\d+)$", text.read(), re.M)
        for path in found if known else []:
            if os.path.getsize(path) == int(known[2]) and sha256(path) == known[1]:
                return path
    return max(found, key=os.path.getsize)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def read_manifest(path, identities):
    """Its lines as objects; fails unless the last one is there."""
    age = subprocess.Popen(["age", "-d", *identities, path], stdout=subprocess.PIPE)
    zstd = subprocess.Popen(["zstd", "-dcq"], stdin=age.stdout, stdout=subprocess.PIPE)
    age.stdout.close()
    line = {}
    for text in zstd.stdout:
        line = json.loads(text)
        yield line
    if zstd.wait() | age.wait() or "end" not in line:
        fail(f"{path} cannot be decrypted with this identity, or is cut short")


def open_pack(depot, pack, size, identities):
    """The decrypted payload of a pack, after checking its size and SHA-256."""
    said = "is missing"
    for path in candidates(depot, f"pack/{pack[:2]}/{pack}"):
        if os.path.getsize(path) != size or sha256(path) != pack:
            said = "is damaged"
            continue
        age = subprocess.run(["age", "-d", *identities, path], stdout=subprocess.PIPE)
        if age.returncode == 0:
            return age.stdout
        said = "cannot be decrypted"
    raise ValueError(f"pack {pack} {said}")


# ---- the manifest ----

class Tree:
    """What a manifest says: entries to make and, for each pack, the blocks to take from it."""

    def __init__(self, lines, wanted):
        self.packs, self.blocks = [], {}             # (name, size); pack number -> RECORDs
        self.kinds, self.entries = {b".": "dir"}, []  # path -> what it is; what to make
        self.files, self.numbers, self.ends = [], {}, []  # entry or None; number in the manifest -> file; bytes so far
        self.head = next(lines)
        if self.head.get("holdfast") != 1:
            fail("this script reads format version 1 only")
        self.starts, self.sizes = zip(*self.head["cuts"])
        for line in lines:
            if "pack" in line:
                self.packs.append((line["pack"], line["size"]))
            elif "end" not in line:
                self.add(line, wanted)

    def add(self, line, wanted):
        number = line.get("file")
        if "type" not in line:  # blocks of a large file whose entry comes later
            file = self.numbers.setdefault(number, len(self.files))
            return self.add_blocks(file, line["blocks"])
        path = line["path"].encode() if "path" in line else base64.b64decode(line["path-base64"])
        self.claim(path, line["type"])
        if wanted and not any(is_below(path, w) for w in wanted):
            return
        line["path"] = path
        self.entries.append(line)
        if line["type"] == "file":
            file = self.numbers.get(number, len(self.files))
            self.add_blocks(file, line.get("blocks", []))
            self.files[file] = line
            size = line.setdefault("size", 0)
            if not size <= self.ends[file] < size + self.size_at(max(size - 1, 0)):
                fail(f"the blocks of {path!r} do not make up its size")
        elif line["type"] != "dir":
            target = line.get("target")
            line["target"] = base64.b64decode(line["target-base64"]) if target is None else target.encode()

    def claim(self, path, kind):
        """Refuses a path that leads out of the target, is there twice, or goes through something not a folder."""
        parts = path.split(b"/")
        if b"\0" in path or len(path) > 4096 or (path != b"." and {b"", b".", b".."} & set(parts)):
            fail(f"unsafe path {path!r}")
        for end in range(1, len(parts)):
            if self.kinds.setdefault(b"/".join(parts[:end]), "dir") != "dir":
                fail(f"unsafe path {path!r}: what it goes through is not a folder")
        if self.kinds.get(path, kind) != kind or (kind != "dir" and path in self.kinds):
            fail(f"unsafe path {path!r}: it is there twice")
        self.kinds[path] = kind

    def size_at(self, offset):
        return self.sizes[bisect.bisect_right(self.starts, offset) - 1]

    def add_blocks(self, file, blocks):
        while file >= len(self.files):
            self.files.append(None)
            self.ends.append(0)
        for block in blocks:
            if isinstance(block, int):
                self.ends[file] = self.skip(self.ends[file], block)
                continue
            _, pack, start, stored = block
            self.blocks.setdefault(pack, bytearray()).extend(RECORD.pack(file, self.ends[file], start, stored))
            self.ends[file] += self.size_at(self.ends[file])

    def skip(self, offset, count):
        """Where `count` blocks end that begin at `offset`."""
        for size, end in zip(self.sizes, [*self.starts[1:], math.inf]):
            here = min(count, -(-(end - offset) // size)) if count and offset < end else 0
            offset, count = offset + here * size, count - here
        return offset


def is_below(path, wanted):
    return path == wanted or path.startswith(wanted + b"/") or fnmatch.fnmatchcase(path, wanted)


# ---- writing ----

def restore_pack(tree, number, depot, target, identities):
    """Writes all blocks of one pack to their places; returns what is wrong and the files that it hurts."""
    blocks = [b for b in RECORD.iter_unpack(tree.blocks[number]) if tree.files[b[0]]]
    try:
        payload = open_pack(depot, *tree.packs[number], identities) if blocks else b""
        batch, batched = [], 0
        for file, offset, start, stored in blocks:
            length = min(tree.size_at(offset), tree.files[file]["size"] - offset)
            batch.append((file, offset, payload[start:start + stored], length))
            batched += length
            if batched > BATCH:
                write_blocks(tree, target, batch)
                batch, batched = [], 0
        write_blocks(tree, target, batch)
    except (ValueError, OSError) as error:
        return error, sorted({tree.files[b[0]]["path"] for b in blocks})
    return None, []


def write_blocks(tree, target, batch):
    """Blocks are zstd frames, and frames decompress together: one call for many. A block of full length is raw."""
    frames = b"".join(stored for _, _, stored, length in batch if len(stored) != length)
    zstd = subprocess.run(["zstd", "-dcq"], input=frames, stdout=subprocess.PIPE) if frames else None
    content, at, opened, fd = memoryview(zstd.stdout if zstd else b""), 0, None, None
    if (zstd and zstd.returncode) or len(content) != sum(b[3] for b in batch if len(b[2]) != b[3]):
        raise ValueError("a block does not decompress to its size")
    for file, offset, stored, length in batch:
        if len(stored) != length:
            stored, at = content[at:at + length], at + length
        if opened != file:
            if fd is not None:
                os.close(fd)
            path = os.path.join(target, tree.files[file]["path"])
            opened, fd = file, os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        os.pwrite(fd, stored, offset)
    if fd is not None:
        os.close(fd)


def make_entries(tree, target):
    """Folders and files of their full size, full of holes, closed to others. Links come last, in finish()."""
    for entry in tree.entries:
        path = os.path.join(target, entry["path"])
        os.makedirs(path if entry["type"] == "dir" else os.path.dirname(path), mode=0o700, exist_ok=True)
        if entry["type"] == "file":
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.ftruncate(fd, entry["size"])
            os.close(fd)


def finish(tree, target):
    """Links, then owners, modes and times: folders last and the deepest first, as each change touches its parent."""
    problems = []
    for entry in sorted(tree.entries, key=lambda e: (e["type"] == "dir", -e["path"].count(b"/"), e["path"] == b".")):
        path = os.path.join(target, entry["path"])
        try:
            if entry["type"] == "hardlink":
                tree.claim(entry["target"] + b"/", "dir") if tree.kinds.get(entry["target"]) != "file" else None
                os.link(os.path.join(target, entry["target"]), path, follow_symlinks=False)
            elif entry["type"] == "symlink":
                os.symlink(entry["target"], path)
            if "mode" in entry and entry["type"] != "hardlink":
                set_attributes(path, entry)
        except OSError as error:
            problems.append(f"{os.fsdecode(entry['path'])}: {error.strerror}")
    return problems


def set_attributes(path, entry):
    if os.geteuid() == 0:
        os.chown(path, owner(pwd.getpwnam, entry.get("user"), entry["uid"]),
                 owner(grp.getgrnam, entry.get("group"), entry["gid"]), follow_symlinks=False)
    for name, value in entry.get("xattrs", {}).items():
        os.setxattr(path, name, base64.b64decode(value), follow_symlinks=False)
    if entry["type"] != "symlink":
        os.chmod(path, entry["mode"])
    seconds, nanoseconds = entry["mtime"]
    mtime = seconds * 10**9 + nanoseconds
    os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


def owner(look_up, name, number):
    """By name if this host knows it, else by number."""
    try:
        return look_up(name)[2] if name else number
    except KeyError:
        return number


# ---- the command ----

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("depot")
    parser.add_argument("--identity", action="append", metavar="FILE", help="age identity or ssh-ed25519 key")
    parser.add_argument("--snapshot", metavar="ID")
    parser.add_argument("--latest", action="store_true", help="the newest (default)")
    parser.add_argument("--job", help="of this job only")
    parser.add_argument("--target", metavar="DIR", help="must be empty or new")
    parser.add_argument("--path", action="append", default=[], metavar="P", help="only this file, folder or pattern")
    parser.add_argument("--list", action="store_true", help="list the backups and stop")
    args = parser.parse_args()
    with open(os.path.join(args.depot, "depot.toml")) as text:
        re.search(r"^format *= *1$", text.read(), re.M) or fail("not a depot of format version 1")
    found = [i for i in snapshots(args.depot) if args.job in (None, i.split("--")[0])]
    if args.list:
        return print("\n".join(found))
    if not args.target or not args.identity:
        parser.error("--target and --identity are needed")
    of = {(i.split("--")[0], i.split("--")[2]) for i in found}
    if not args.snapshot and len(of) != 1:
        fail("name one backup with --snapshot, or a --job: " + ("; ".join(map(" on ".join, of)) or "there is none"), 2)
    restore(args, args.snapshot or found[-1])


def restore(args, snapshot):
    identities = [part for path in args.identity for part in ("-i", path)]
    target = os.fsencode(os.path.abspath(args.target))
    os.makedirs(target, mode=0o700, exist_ok=True)
    os.listdir(target) and fail(f"{args.target} is not empty", 2)
    print(f"restoring {snapshot}", file=sys.stderr)
    wanted = [os.fsencode(path.strip("/")) for path in args.path]
    tree = Tree(read_manifest(find_manifest(args.depot, snapshot), identities), wanted)
    make_entries(tree, target)
    problems = [f"{p['path']}: {p['what']} (when it was backed up)" for p in tree.head["problems"]]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = [pool.submit(restore_pack, tree, n, args.depot, target, identities) for n in tree.blocks]
        for done, task in enumerate(concurrent.futures.as_completed(work), 1):
            error, hurt = task.result()
            problems += [f"{os.fsdecode(path)}: damaged: {error}" for path in hurt]
            print(f"\r{done} of {len(work)} packs", end="", file=sys.stderr)
    problems += finish(tree, target)
    print(f"\n{len(tree.entries)} entries restored to {args.target}", file=sys.stderr)
    if tree.head.get("parent"):
        problems.append(f"this is an increment: restore {tree.head['parent']} too, see recover-by-hand.md")
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return sys.exit(3 if problems else 0)


if __name__ == "__main__":
    main()
