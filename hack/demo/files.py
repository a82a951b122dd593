"""The files that the demo backs up, and their manifest, taken on the node without our code.

The manifest is made of what coreutils and attr print about the mounted volume: `stat`,
`sha256sum`, `getfattr`, link targets, and the groups of hard links. Two manifests are equal if and
only if the two trees are.
"""

import subprocess
from collections.abc import Callable, Sequence

SMALL_FILES = 1000
LARGE_BYTES = 64 * 1024 * 1024
SPARSE_BYTES = 256 * 1024 * 1024
SPARSE_BLOCKS_LIMIT = SPARSE_BYTES // 512 // 20
"""Blocks of 512 bytes that the sparse file may have when it comes back, a twentieth of its size:
restic leaves out whole blobs of zeros, of at least 512 KiB, so some zeros are written."""

Shell = Callable[[str], str]


class NodeError(Exception):
    """A script on the node failed; the text is the last line that it printed."""


WRITE = f"""
set -eu
cd "$ROOT"
mkdir -p many large links odd owners
i=0; while [ $i -lt {SMALL_FILES} ]; do
  d=many/$((i % 20)); mkdir -p $d; echo "file $i of the many small ones" > $d/$i.txt; i=$((i + 1))
done
head -c {LARGE_BYTES} /dev/urandom > large/random.bin
truncate -s {SPARSE_BYTES} large/sparse.img
printf 'begin' | dd of=large/sparse.img conv=notrunc bs=4096 seek=0 2>/dev/null
printf 'end' | dd of=large/sparse.img conv=notrunc bs=4096 seek=60000 2>/dev/null
echo 'one inode, three names' > links/first; ln links/first links/second; ln links/first odd/third
ln -s ../many/0/0.txt links/relative; ln -s /does/not/exist links/dangling; ln -s many links/folder
mkdir -p odd/empty; : > odd/empty.file
echo a > 'odd/with space'; echo b > "odd/quote'and\\"quote"; echo c > 'odd/-leading-dash'
echo d > 'odd/ünïcödé 🐿'; echo e > 'odd/*star?[x]'; printf 'f' > "$(printf 'odd/new\\nline')"
printf 'g' > "$(printf 'odd/not-utf8-\\377\\376')"; echo h > 'odd/.hidden'
echo i > 'odd/back\\slash'
echo secret > owners/mode-0600; chmod 0600 owners/mode-0600; chown 1234:5678 owners/mode-0600
echo run > owners/setuid; chown 0:0 owners/setuid; chmod 4755 owners/setuid
mkdir owners/sticky owners/setgid; chmod 1777 owners/sticky
chown 1000:1000 owners/setgid; chmod 2775 owners/setgid
touch -d '2001-02-03 04:05:06' owners/sticky
echo old > owners/old; touch -d '1999-12-31 23:59:59' owners/old; chmod 0000 owners/old
echo tagged > owners/xattr; setfattr -n user.drey.demo -v 'a value' owners/xattr
setfattr -n user.binary -v 0x00ff10 many
"""

# %b would count blocks: a restored file may have another number of them without being different,
# so blocks are compared for the sparse file alone. The root folder has no name: `.`.
FACTS = r"""
set -eu
cd "$ROOT"
find . -print0 | LC_ALL=C sort -z | xargs -0 stat --printf '%n\t%f\t%u:%g\t%s\t%Y\t%h\n' -- \
  | awk -F '\t' 'BEGIN { OFS = FS } { if ($2 ~ /^4/) { $4 = "-"; $6 = "-" } print }'
echo '# contents'
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum --
echo '# link targets'
find . -type l -printf '%p -> %l\n' | LC_ALL=C sort
echo '# names of one inode'
find . -type f -links +1 -printf '%i %p\n' | LC_ALL=C sort -k1,1 -k2 \
  | awk '{ i = $1; sub(/^[0-9]+ /, ""); if (i != last) { if (line) print line; line = ""; last = i }
           line = line " " $0 } END { if (line) print line }' | LC_ALL=C sort
echo '# extended attributes'
getfattr -R -h -d -m '^user\.' -e hex -P . 2>/dev/null | LC_ALL=C sort
"""

BLOCKS = 'stat --format %b "$ROOT/large/sparse.img"'


def shell_on(prefix: Sequence[str], root: str) -> Shell:
    """Return what runs a script on the node with the volume's folder in $ROOT.

    It raises NodeError when the script fails.
    """

    def run(script: str) -> str:
        done = subprocess.run(
            [*prefix, "env", f"ROOT={root}", "LC_ALL=C", "bash", "-c", script],
            check=False,
            capture_output=True,
        )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"exit code {done.returncode}"
            raise NodeError(f"on the node: {last}")
        return done.stdout.decode(errors="surrogateescape")

    return run


def manifest(shell: Shell) -> list[str]:
    """Return the manifest, a line a fact."""
    return shell(FACTS).splitlines()
