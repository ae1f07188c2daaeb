#!/usr/bin/env python3
"""Restores a backup without Holdfast: needs Python 3.9, the programs `age` and `zstd`, and your age identity.

    recover.py DEPOT --list
    recover.py DEPOT --identity key.txt --latest --job site --target /srv/restored
    recover.py DEPOT --identity key.txt --snapshot ID --target /srv/restored --path wp-content/uploads

DEPOT is a directory: mount the depot, or copy it first (`rclone copy`, `sftp -r`, `aws s3 sync`).
It writes only into TARGET, which must be empty or new. The format is in format.md, the steps by hand are in
recover-by-hand.md. Each pack is checked against its SHA-256 and was authenticated by age. The keyed BLAKE3 names of
single blocks are not checked: Python's standard library has no BLAKE3.
Exit: 0 done, 1 failed, 2 wrong usage, 3 done but for the files named on standard error.
"""
import argparse, base64, bisect, concurrent.futures, datetime, fnmatch, grp, hashlib, json, os, pwd, re, struct
import subprocess, sys

RECORD = struct.Struct("<IQII")  # number of the file, offset in it, offset in the pack's payload, stored length
BATCH = 64                       # so many blocks, of 1 MiB at most, are decompressed in one go
USERS = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
GROUPS = {group.gr_name: group.gr_gid for group in grp.getgrall()}

def fail(text, code=1):
    sys.exit(print(f"error: {text}", file=sys.stderr) or code)

# ---- the depot: a folder of objects ----
def candidates(depot, name):
    """The object, and its repetitions `.1` to `.9` after torn uploads, as far as they are there."""
    paths = [os.path.join(depot, name + (f".{n}" if n else "")) for n in range(10)]
    return [path for path in paths if os.path.isfile(path)]

def find(depot, name, size, checksum):
    """The candidate with this size and SHA-256, or nothing."""
    for path in candidates(depot, name):
        with open(path, "rb") as file:
            if os.path.getsize(path) == size and hashlib.sha256(file.read()).hexdigest() == checksum:
                return path

def snapshots(depot):
    """Ids of all backups, oldest first, and those that say that they began an hour or more after they were stored:
    a clock was wrong, and they would be the newest for years. A backup exists if its manifest does."""
    form = re.compile(r"(.+?--(\d{8}T\d{6}Z)--.+)\.age(\.\d)?")
    found = map(form.fullmatch, os.listdir(os.path.join(depot, "snapshot")))
    found = sorted({(m[2], m[1]) for m in found if m})
    def is_ahead(began, id):
        began = datetime.datetime.strptime(began, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        arrived = [os.path.getmtime(path) for path in candidates(depot, f"snapshot/{id}.age")]
        return max(arrived, default=0) + 3600 < began.timestamp()
    return [id for _, id in found], {id for began, id in found if is_ahead(began, id)}

def find_manifest(depot, id):
    """The needs list knows its checksum; without one the largest candidate is taken, and its end must be there."""
    found = candidates(depot, f"snapshot/{id}.age") or fail(f"there is no backup {id}")
    for needs in candidates(depot, f"snapshot/{id}.needs"):
        with open(needs, errors="replace") as text:
            known = re.search(r"^manifest ([0-9a-f]{64}) (\d+)$", text.read(), re.M)
        if known and (path := find(depot, f"snapshot/{id}.age", int(known[2]), known[1])):
            return path
    return max(found, key=os.path.getsize)

def read_manifest(path, keys):
    """Its lines; fails unless the last one is there."""
    age = subprocess.Popen(["age", "-d", *keys, path], stdout=subprocess.PIPE)
    zstd = subprocess.Popen(["zstd", "-dcq"], stdin=age.stdout, stdout=subprocess.PIPE)
    age.stdout.close()
    line = b""
    for line in zstd.stdout:
        yield json.loads(line)
    if zstd.wait() or age.wait() or not line.startswith(b'{"end"'):
        fail(f"{path} is cut short or damaged, or this identity does not open it")

# ---- the manifest: a list of files and of the blocks that they are made of ----
class Tree:
    def __init__(self, lines, wanted):
        self.packs, self.blocks = [], {}               # (name, size); number of a pack -> RECORDs
        self.kinds, self.entries = {b".": "dir"}, []   # path -> what it is; what to make
        self.files, self.ends, self.numbers = [], [], {}  # entry or None; bytes so far; manifest's number -> ours
        self.wanted, self.head = wanted, next(lines)
        self.head.get("holdfast") == 1 or fail("this script reads format version 1 only")
        self.starts, self.sizes = zip(*self.head["cuts"])
        for line in lines:
            if "pack" in line:
                self.packs.append((line["pack"], line["size"]))
            elif "type" in line:
                self.add_entry(line)
            elif "blocks" in line:  # of a large file whose entry comes later
                self.add_blocks(self.numbers.setdefault(line["file"], len(self.files)), line["blocks"])

    def add_entry(self, entry):
        for name in "path", "target":
            text, coded = entry.get(name), entry.get(name + "-base64")
            entry[name] = base64.b64decode(coded) if coded else (text or "").encode()
        path = entry["path"]
        self.claim(path, entry["type"])
        if not any((path + b"/").startswith(w + b"/") or fnmatch.fnmatchcase(path, w) for w in self.wanted):
            return
        self.entries.append(entry)
        if entry["type"] == "file":
            number, size = self.numbers.get(entry.get("file"), len(self.files)), entry.setdefault("size", 0)
            self.add_blocks(number, entry.get("blocks", []))
            self.files[number] = entry
            fits = size <= self.ends[number] < size + self.size_at(max(size - 1, 0))
            fits or fail(f"the blocks of {path} do not make up its size")

    def claim(self, path, kind):
        """Refuses a path that leads out of the target, is there twice, or goes through something not a folder."""
        parts = path.split(b"/")
        above = [b"/".join(parts[:end]) for end in range(1, len(parts))]
        is_plain = b"\0" not in path and (path == b"." or not {b"", b".", b".."} & set(parts))
        is_taken = path in self.kinds and not self.kinds[path] == kind == "dir"
        if not is_plain or is_taken or any(self.kinds.setdefault(folder, "dir") != "dir" for folder in above):
            fail(f"unsafe path {path}")
        self.kinds[path] = kind

    def wanted_blocks(self, pack):
        return [block for block in RECORD.iter_unpack(self.blocks[pack]) if self.files[block[0]]]

    def size_at(self, offset):
        return self.sizes[bisect.bisect_right(self.starts, offset) - 1]

    def add_blocks(self, number, blocks):
        if number == len(self.files):
            self.files.append(None)
            self.ends.append(0)
        at = self.ends[number]
        for block in blocks:
            if isinstance(block, int):  # so many blocks of zeros
                at = self.skip(at, block)
            else:
                self.blocks.setdefault(block[1], bytearray()).extend(RECORD.pack(number, at, *block[2:]))
                at += self.size_at(at)
        self.ends[number] = at

    def skip(self, at, count):  # where so many blocks end that begin at `at`
        for size, end in zip(self.sizes, [*self.starts[1:], 1 << 63]):
            here = min(count, -((at - end) // size)) if count and at < end else 0
            at, count = at + here * size, count - here
        return at

# ---- writing ----
def restore_pack(tree, number, depot, target, keys):
    """Writes all blocks of one pack to their places; returns what is wrong, and the files that it hurts."""
    blocks = tree.wanted_blocks(number)
    try:
        pack, size = tree.packs[number]
        if not (path := find(depot, f"pack/{pack[:2]}/{pack}", size, pack)):
            raise ValueError(f"pack {pack} is missing or damaged")
        payload = subprocess.run(["age", "-d", *keys, path], stdout=subprocess.PIPE, check=True).stdout
        for first in range(0, len(blocks), BATCH):
            write_blocks(tree, target, payload, blocks[first:first + BATCH])
        return None, []
    except (ValueError, OSError, IndexError, subprocess.SubprocessError) as error:
        return error, sorted({tree.files[block[0]]["path"] for block in blocks})

def write_blocks(tree, target, payload, blocks):
    """Blocks are zstd frames, and frames decompress together: one call for many. A block of full length is raw."""
    lengths = [min(tree.size_at(at), tree.files[file]["size"] - at) for file, at, _, _ in blocks]
    pieces = [payload[start:start + stored] for _, _, start, stored in blocks]
    frames = [piece for piece, length in zip(pieces, lengths) if len(piece) != length]
    plain = subprocess.run(["zstd", "-dcq"], input=b"".join(frames), stdout=subprocess.PIPE).stdout if frames else b""
    if len(plain) != sum(length for piece, length in zip(pieces, lengths) if len(piece) != length):
        raise ValueError("a block does not decompress to its size")
    taken = 0
    for (file, at, _, _), piece, length in zip(blocks, pieces, lengths):
        if len(piece) != length:
            piece, taken = plain[taken:taken + length], taken + length
        with open(os.path.join(target, tree.files[file]["path"]), "r+b") as out:
            out.seek(at)
            out.write(piece)

def make_entries(tree, target):
    """Folders, and files of their full size made of holes, closed to others. Links come last, in finish()."""
    for entry in tree.entries:
        path = os.path.join(target, entry["path"])
        os.makedirs(path if entry["type"] == "dir" else os.path.dirname(path), exist_ok=True)
        if entry["type"] == "file":
            with open(path, "xb") as file:
                file.truncate(entry["size"])
                entry["size"] and not entry.get("sparse") and os.posix_fallocate(file.fileno(), 0, entry["size"])

def finish(tree, target):
    """Links, then owners, modes and times: folders last and the deepest first, as each change touches its folder."""
    order = ["file", "hardlink", "symlink", "dir"]
    depth = lambda path: (path == b".", -path.count(b"/"))
    for entry in sorted(tree.entries, key=lambda entry: (order.index(entry["type"]), depth(entry["path"]))):
        path = os.path.join(target, entry["path"])
        try:
            if entry["type"] == "hardlink":
                if tree.kinds.get(entry["target"]) != "file":
                    raise ValueError("the first name of this hard link is not a file")
                os.link(os.path.join(target, entry["target"]), path, follow_symlinks=False)
            elif entry["type"] == "symlink":
                os.symlink(entry["target"], path)
            if "mode" in entry and entry["type"] != "hardlink":
                set_attributes(path, entry)
        except (OSError, ValueError) as error:
            yield f"{os.fsdecode(entry['path'])}: {error}"

def set_attributes(path, entry):
    if os.geteuid() == 0:  # by name if this host knows it, else by number
        user, group = USERS.get(entry.get("user"), entry["uid"]), GROUPS.get(entry.get("group"), entry["gid"])
        os.chown(path, user, group, follow_symlinks=False)
    for name, value in entry.get("xattrs", {}).items():
        os.setxattr(path, name, base64.b64decode(value), follow_symlinks=False)
    if entry["type"] != "symlink":
        os.chmod(path, entry["mode"] if os.geteuid() == 0 else entry["mode"] & 0o1777)
    mtime = entry["mtime"][0] * 10**9 + entry["mtime"][1]
    os.utime(path, ns=(mtime, mtime), follow_symlinks=False)

# ---- the command ----
def restore(args, id):
    target, keys = os.fsencode(os.path.abspath(args.target)), [part for k in args.identity for part in ("-i", k)]
    os.umask(0o077)  # closed to others, until everything has its own mode
    os.makedirs(target, exist_ok=True)
    os.listdir(target) and fail(f"{args.target} is not empty", 2)
    wanted = [os.fsencode(path.strip("/")) for path in args.path or ["*"]]
    tree = Tree(read_manifest(find_manifest(args.depot, id), keys), wanted)
    make_entries(tree, target)
    problems = [f"{p['path']}: {p['what']} (when it was backed up)" for p in tree.head["problems"]]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        packs = [number for number in sorted(tree.blocks) if tree.wanted_blocks(number)]
        work = [pool.submit(restore_pack, tree, number, args.depot, target, keys) for number in packs]
        for done, task in enumerate(concurrent.futures.as_completed(work), 1):
            error, hurt = task.result()
            problems += [f"{os.fsdecode(path)}: not whole: {error}" for path in hurt]
            print(f"\r{done} of {len(work)} packs", end="", file=sys.stderr)
    problems += finish(tree, target)
    if tree.head.get("parent"):
        problems.append(f"this is an increment of {tree.head['parent']}: see recover-by-hand.md, Databases")
    print(f"\n{len(tree.entries)} entries of {id} restored to {args.target}", file=sys.stderr)
    print("".join(f"problem: {problem}\n" for problem in problems), end="", file=sys.stderr)
    sys.exit(3 if problems else 0)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("depot", help="the directory of the depot")
    option("--identity", action="append", metavar="FILE", help="age identity or ssh-ed25519 key")
    option("--snapshot", metavar="ID", help="this backup")
    option("--latest", action="store_true", help="the newest (the default)")
    option("--job", help="only backups of this job")
    option("--target", metavar="DIR", help="where to: empty or new")
    option("--path", action="append", help="only this file, folder or pattern")
    option("--list", action="store_true", help="list the backups and stop")
    args = parser.parse_args()
    with open(os.path.join(args.depot, "depot.toml")) as text:
        re.search(r"^format *= *1$", text.read(), re.M) or fail("this is not a depot of format version 1")
    found, ahead = snapshots(args.depot)
    found = [id for id in found if args.job in (None, id.split("--")[0])]
    if args.list:
        return print("\n".join(found))
    args.target and args.identity or parser.error("--target and --identity are needed")
    kinds = sorted({" on ".join(id.split("--")[::2]) for id in found})
    if not args.snapshot and len(kinds) != 1:
        fail(f"choose with --job or --snapshot; there is: {', '.join(kinds) or 'nothing'}", 2)
    if not args.snapshot:
        [print(f"{id} is passed over: its clock was ahead", file=sys.stderr) for id in found if id in ahead]
        found = [id for id in found if id not in ahead] or fail("choose with --snapshot: all clocks were ahead", 2)
    restore(args, args.snapshot or found[-1])

main()
