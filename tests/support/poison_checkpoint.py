#!/usr/bin/env python3
"""Makes an element of a checkpoint's tensor NaN, with all checksums right: what a run that had diverged once saved.

    poison_checkpoint.py STEP_FOLDER [TENSOR]      (written by one rank; float32)
"""
import json
import re
import struct
import sys
import zlib

folder = sys.argv[1]
tensor = sys.argv[2] if len(sys.argv) > 2 else "weights/fast_weight.norm.scale"
text = open(folder + "/manifest.json").read()
manifest = json.loads(text)
file, _, _, count, checksum = manifest["tensors"][tensor]["slices"][0]
data = bytearray(open(folder + "/" + file, "rb").read())


def crc(piece):
    return "%08x" % zlib.crc32(piece)


place = next(i for i in range(0, len(data) - 4 * count + 1) if crc(data[i : i + 4 * count]) == checksum)
struct.pack_into("<I", data, place, 0x7FC00000)
text = text.replace('"%s"' % checksum, '"%s"' % crc(data[place : place + 4 * count]), 1)
text = text.replace('"%s"' % manifest["files"][file][1], '"%s"' % crc(data), 1)
# Older ones do not say that they are finite.
text = re.sub(r'\n "finite": true,', "", text)
without = re.sub(r'\n "checksum": "[0-9a-f]{8}",', "", text, count=1).rstrip("\n")
text = re.sub(r'(\n "checksum": )"[0-9a-f]{8}"', r'\1"%s"' % crc(without.encode()), text, count=1)
open(folder + "/" + file, "wb").write(data)
open(folder + "/manifest.json", "w").write(text)
