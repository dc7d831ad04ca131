// What a file is, by its first bytes: names lie (`.json` holds lines, `.txt` is a download that was never
// unpacked), bytes seldom do. Pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace fwl {

enum class Packing { kNone, kGzip, kZstd, kBzip2, kXz };
const char* name_of(Packing packing);  // "gzip", ...; "none"

// First bytes that tell one packing from the others.
inline constexpr size_t kPackingBytes = 10;
// How data that begins with `head` is compressed.
Packing packing_of(std::string_view head);
// Whether `head`, which the end of the file cut short, may be the beginning of `packing`.
bool may_begin(Packing packing, std::string_view head);
// How the end of a name (in any case) says that the file is compressed.
Packing packing_named(std::string_view name);
// `name` without the ends of compressed files, all of them: "a.json.GZ" is "a.json".
std::string without_compression(std::string name);

// First bytes that are looked at for what is no text.
inline constexpr size_t kHeadBytes = size_t{1} << 16;
// Why the file that begins with `head`, decompressed, is no text that could be read, in words that go on with
// "is " and end with what to do; empty for text. Containers (zip, tar, Parquet, ...), UTF-16 and UTF-32 with
// and without a mark, and what is mostly zero or control bytes.
std::string why_no_text(std::string_view head);
// Share of `head` that is no part of valid UTF-8; a character that the end cuts counts as valid.
double invalid_share(std::string_view head);

}  // namespace fwl
