#!/usr/bin/env bash
# ashlar gguf: sound models of both versions, against another reader; models that are not sound.
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
make_model=$top/tests/gguf/make_model
cd "$TMP" || exit 1

says() { # WHAT PATTERN CMD...: prints a line like that
    local what=$1 pattern=$2
    shift 2
    if "$@" 2>&1 | grep -qE -- "$pattern"; then pass "$what"; else fail "$what" "$("$@" 2>&1 | head -5)"; fi
}

for v in 2 3; do
    "$make_model" "v$v.gguf" --version $v --tensors 9 --vocabulary 1000 --elements 65536
    check "version $v: verify" "$ASHLAR" gguf verify v$v.gguf
    says "version $v: version" "^GGUF version: $v$" "$ASHLAR" gguf verify v$v.gguf
    says "version $v: tensors" '^Tensors: 9$' "$ASHLAR" gguf verify v$v.gguf
    says "version $v: parameters" '^Parameters: 589824$' "$ASHLAR" gguf verify v$v.gguf
    says "version $v: vocabulary" '^Tokenizer: 1000 tokens, 7890 bytes$' "$ASHLAR" gguf verify v$v.gguf
done
says "a negative number" 'test.int64 \(int64\) = -1099511627776' "$ASHLAR" gguf info v3.gguf
says "a float" 'test.float64 \(float64\) = -0.25' "$ASHLAR" gguf info v3.gguf
says "an array" 'tokenizer.ggml.tokens \(array\) = 1000 of string' "$ASHLAR" gguf info v3.gguf
says "tensors" 'blk.2.weight Q4_K \[256, 256\] at [0-9]+, 36864 bytes' "$ASHLAR" gguf info v3.gguf --tensors
check "JSON" sh -c "'$ASHLAR' gguf info v3.gguf --json | python3 -m json.tool"
# The checksum is that of the data, computed by someone else.
data=$("$ASHLAR" gguf info v3.gguf | sed -n 's/^data at *//p')
crc=$(tail -c "+$((data + 1))" v3.gguf | python3 -c '
import sys
table = []
for i in range(256):
    c = i
    for _ in range(8):
        c = (c >> 1) ^ (0x82f63b78 if c & 1 else 0)
    table.append(c)
c = 0xffffffff
for b in sys.stdin.buffer.read():
    c = table[(c ^ b) & 255] ^ (c >> 8)
print("%08x" % (c ^ 0xffffffff))')
says "the checksum of the data" "CRC-32C $crc" "$ASHLAR" gguf verify v3.gguf
# On a device, in the middle of other things, with large blocks.
{ head -c 5000 /dev/urandom; cat v3.gguf; head -c 100000 /dev/urandom; } >disk
truncate -s %4096 disk
says "within a device" "CRC-32C $crc" "$ASHLAR" gguf verify --offset 5000 "file:disk?block=4096"
says "a name with signs" "CRC-32C $crc" sh -c "cp v3.gguf 'a,b?c%d' && '$ASHLAR' gguf verify 'a,b?c%d'"

# Another reader, from the npm registry.
if command -v npm >/dev/null && (mkdir -p npm && cd npm && npm init -y && timeout 120 npm install \
    --no-audit --no-fund @huggingface/gguf) >npm.log 2>&1; then
    cat >npm/read.mjs <<'END'
import { gguf, GGMLQuantizationType } from '@huggingface/gguf';
const { metadata, tensorInfos } = await gguf(process.argv[2], { allowLocalFile: true });
console.log(metadata.version, tensorInfos.length, metadata['tokenizer.ggml.tokens'].length,
    Number(metadata['test.int64']), metadata['test.float32'], metadata['general.name']);
for (const t of tensorInfos)
    console.log(t.name, GGMLQuantizationType[t.dtype], t.shape.join(','));
END
    for v in 2 3; do
        (cd npm && node read.mjs "../v$v.gguf") >theirs.txt 2>npm.log
        "$ASHLAR" gguf info v$v.gguf --json | python3 -c '
import json, sys
m = json.load(sys.stdin)
v = {x["key"]: x.get("value", x.get("count")) for x in m["metadata"]}
print(m["version"], len(m["tensors"]), v["tokenizer.ggml.tokens"], v["test.int64"], v["test.float32"], v["general.name"])
for t in m["tensors"]:
    print(t["name"], t["type"], ",".join(str(n) for n in t["shape"]))' >ours.txt
        check "version $v: another reader sees the same" diff theirs.txt ours.txt
    done
else
    skip "another reader" "the npm registry does not answer"
fi

# Not sound: a message, exit 1, and nothing else.
broken() { # NAME PATTERN: the file `broken`
    says "$1: tells" "$2" "$ASHLAR" gguf verify broken
    check_fails "$1: fails" 1 "" "$ASHLAR" gguf verify broken
}
patch() { # OFFSET BYTES...: a copy of v3 with other bytes
    cp v3.gguf broken
    printf "$2" | dd of=broken bs=1 seek="$1" conv=notrunc status=none
}
head -c 1000000 /dev/zero >broken; broken "zeroes" 'no GGUF model starts here'
printf GGU >broken; broken "three bytes" 'ends here|no GGUF'
patch 4 '\4\0\0\0'; broken "version 4" 'GGUF version 4; 2 and 3 can be read'
patch 4 '\0\0\0\3'; broken "big-endian" 'a big-endian GGUF file'
patch 8 '\377\377\377\377\377\377\377\377'; broken "absurd tensors" 'tensors do not fit'
patch 16 '\377\377\377\377\377\377\377\177'; broken "absurd metadata" 'metadata do not fit'
patch 24 '\377\377\377\377\377\377\377\377'; broken "an absurd string" 'a string of 18446744073709551615 bytes'
patch 52 '\77\0\0\0'; broken "an unknown value type" 'no value type 63'
head -c 300 v3.gguf >broken; broken "cut metadata" 'ends here|more than there are|more than there'
head -c 20000 v3.gguf >broken; broken "a cut table" 'ends here|more than there|do not fit|truncated'
head -c -1 v3.gguf >broken; broken "one byte less" 'truncated'
"$make_model" broken --alignment 12; broken "an alignment of 12" 'no multiple of 8'
"$make_model" a --tensors 2 --type I8 --elements 256
python3 - <<'END'
import struct
b = bytearray(open("a", "rb").read())
at = b.rindex(struct.pack("<IQ", 24, 256))
b[at + 4:at + 12] = struct.pack("<Q", 32)
open("broken", "wb").write(b)
END
broken "overlapping tensors" 'tensors overlap'
python3 - <<'END'
import struct
b = bytearray(open("a", "rb").read())
at = b.rindex(struct.pack("<IQ", 24, 256))
b[at:at + 4] = struct.pack("<I", 4)
open("broken", "wb").write(b)
END
broken "a type that was removed" 'there is no tensor type 4'
finish
