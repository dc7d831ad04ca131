#include "data/file_kind.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <optional>

#include "core/base/error.h"
#include "data/utf8.h"

namespace fwl {
namespace {

using namespace std::string_view_literals;

// ---- compression

struct PackingMark {
  Packing packing;
  std::string_view name, first_bytes;
};
constexpr std::array<PackingMark, 5> kPackingMarks = {{
    {Packing::kGzip, "gzip", "\x1F\x8B\x08"sv},
    {Packing::kZstd, "zstd", "\x28\xB5\x2F\xFD"sv},
    {Packing::kXz, "xz", "\xFD\x37zXZ\0"sv},
    {Packing::kBzip2, "bzip2", "BZh?1AY&SY"sv},                    // a block; ?: 1 to 9
    {Packing::kBzip2, "bzip2", "BZh?\x17\x72\x45\x38\x50\x90"sv},  // none: an empty file
}};

// Frames that zstd's readers pass over; parallel compressors begin with one.
constexpr std::string_view kSkippable = "?\x2A\x4D\x18"sv;

bool fits(std::string_view mark, std::string_view head, size_t count) {
  for (size_t i = 0; i < count; ++i)
    if (mark[i] != '?' && mark[i] != head[i]) return false;
  return true;
}

bool begins_as(const PackingMark& mark, std::string_view head, size_t count) {
  if (!fits(mark.first_bytes, head, count)) return false;
  return mark.packing != Packing::kBzip2 || count < 4 || (head[3] >= '1' && head[3] <= '9');
}

bool begins_skippable(std::string_view head, size_t count) {
  return fits(kSkippable, head, count) &&
         (count == 0 || (static_cast<unsigned char>(head[0]) & 0xF0u) == 0x50);
}

struct Ending {
  std::string_view text;
  Packing packing;
};
constexpr std::array<Ending, 5> kEndings = {{{".gz", Packing::kGzip},
                                             {".zst", Packing::kZstd},
                                             {".zstd", Packing::kZstd},
                                             {".bz2", Packing::kBzip2},
                                             {".xz", Packing::kXz}}};

bool ends_in(std::string_view name, std::string_view ending) {
  if (name.size() <= ending.size()) return false;
  return std::equal(ending.begin(), ending.end(), name.end() - static_cast<std::ptrdiff_t>(ending.size()),
                    [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); });
}

std::optional<Ending> ending_of(std::string_view name) {
  for (const Ending& ending : kEndings)
    if (ends_in(name, ending.text)) return ending;
  return std::nullopt;
}

// ---- containers and other binary files

constexpr const char* kUnpack = "Unpack it and give its text files";
constexpr const char* kDecompress = "Decompress it, or compress it as gzip, zstd, bzip2 or xz";
constexpr const char* kTable =
    "Convert it to JSON lines (in Python: pandas or pyarrow, .to_json(OUT, orient='records', lines=True))";
constexpr const char* kExtract = "Extract its text first";

struct Container {
  size_t offset;
  std::string_view mark;
  const char* what;
  const char* to_do;
  bool also_text = false;  // the mark might begin a text: only together with bytes that no text has
};
constexpr std::array<Container, 37> kContainers = {{
    {0, "PK\x03\x04"sv, "a zip archive (or an Office document)", kUnpack},
    {0, "PK\x05\x06"sv, "an empty zip archive", kUnpack},
    {0, "PK\x07\x08"sv, "a zip archive in several parts", kUnpack},
    {257, "ustar"sv, "a tar archive", kUnpack},
    {0, "7z\xBC\xAF\x27\x1C"sv, "a 7z archive", kUnpack},
    {0, "Rar!\x1A\x07"sv, "a rar archive", kUnpack},
    {0, "070701"sv, "a cpio archive", kUnpack, true},
    {0, "!<arch>\n"sv, "an ar archive (or a Debian package)", kUnpack},
    {0, "PAR1"sv, "a Parquet table", kTable, true},
    {0, "PARE"sv, "an encrypted Parquet table", kTable, true},
    {0, "ARROW1"sv, "an Arrow file", kTable},
    {0, "FEA1"sv, "a Feather table", kTable, true},
    {0, "ORC"sv, "an ORC table", kTable, true},
    {0, "Obj\x01"sv, "an Avro file", kTable},
    {0, "\x89HDF\r\n\x1A\n"sv, "an HDF5 file", "Give the text that it was made from"},
    {0, "SQLite format 3\0"sv, "an SQLite database", "Export its text as JSON lines"},
    {0, "\x93NUMPY"sv, "a NumPy array", "Give the text that it was made from"},
    {0, "GGUF"sv, "a GGUF model", "Give text", true},
    {0, "%PDF-"sv, "a PDF document", kExtract},
    {0, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv, "an Office document", kExtract},
    {0, "{\\rtf"sv, "an RTF document", kExtract},
    {0, "\x04\x22\x4D\x18"sv, "lz4 data", kDecompress},
    {0, "LZIP"sv, "lzip data", kDecompress, true},
    {0, "\x1F\x9D"sv, "data of compress (.Z)", kDecompress},
    {0, "\xFF\x06\0\0sNaPpY"sv, "snappy data", kDecompress},
    {0, "\x89LZO"sv, "lzop data", kDecompress},
    {0, "\x5D\0\0\x80\0"sv, "lzma data", kDecompress},
    {0,
     "\x7F"
     "ELF"sv,
     "a program or library", "Give text"},
    {0, "\xCA\xFE\xBA\xBE"sv, "a compiled class or program", "Give text"},
    {0, "\0asm"sv, "a WebAssembly module", "Give text"},
    {0, "\x89PNG\r\n\x1A\n"sv, "a PNG image", "Give text"},
    {0, "\xFF\xD8\xFF"sv, "a JPEG image", "Give text"},
    {0, "GIF8"sv, "a GIF image", "Give text", true},
    {0, "RIFF"sv, "a RIFF file (sound, film or image)", "Give text", true},
    {0, "OggS"sv, "an Ogg file", "Give text", true},
    {0, "\x1A\x45\xDF\xA3"sv, "a Matroska film", "Give text"},
    {0, "ID3"sv, "an MP3 file", "Give text", true},
}};

bool is_control(char c) {
  const auto b = static_cast<unsigned char>(c);
  return b < 0x08 || (b > 0x0D && b < 0x20 && b != 0x1B) || b == 0x7F;
}

double share_of(std::string_view bytes, bool (*counts)(char)) {
  if (bytes.empty()) return 0;
  return static_cast<double>(std::count_if(bytes.begin(), bytes.end(), counts)) /
         static_cast<double>(bytes.size());
}

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// A stream begins with a mark of continuation, then the length of its metadata, a multiple of 8.
bool is_arrow_stream(std::string_view head) {
  if (head.size() < 16 || head.substr(0, 4) != "\xFF\xFF\xFF\xFF"sv) return false;
  const uint32_t length = little_endian(head, 4);
  return length >= 8 && length % 8 == 0 && length < (1u << 26);
}

// Archives from before "ustar" have the checksum of their header alone: the sum of its bytes, with the field
// itself taken as blanks, in octal digits.
bool is_old_tar(std::string_view head) {
  if (head.size() < 512 || head[0] == '\0') return false;
  int64_t sum = 0, said = 0;
  int digits = 0;
  for (size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(head[i]);
  for (size_t i = 148; i < 156; ++i) {
    if (head[i] < '0' || head[i] > '7') continue;
    said = said * 8 + (head[i] - '0');
    ++digits;
  }
  return digits >= 4 && said == sum;
}

// ---- UTF-16 and UTF-32

struct Wide {
  const char* name;
  size_t unit;
  bool little;
};
constexpr std::array<Wide, 4> kWide = {
    {{"UTF-32LE", 4, true}, {"UTF-32BE", 4, false}, {"UTF-16LE", 2, true}, {"UTF-16BE", 2, false}}};

const char* marked_as(std::string_view head) {
  if (head.starts_with("\xFF\xFE\0\0"sv)) return "UTF-32LE";
  if (head.starts_with("\0\0\xFE\xFF"sv)) return "UTF-32BE";
  if (head.starts_with("\xFF\xFE"sv)) return "UTF-16LE";
  if (head.starts_with("\xFE\xFF"sv)) return "UTF-16BE";
  return nullptr;
}

uint32_t unit_at(std::string_view head, size_t at, const Wide& wide) {
  uint32_t unit = 0;
  for (size_t i = 0; i < wide.unit; ++i)
    unit = unit << 8 | static_cast<unsigned char>(head[at + (wide.little ? wide.unit - 1 - i : i)]);
  return unit;
}

// Characters that texts are written with: no controls, no private or unassigned blocks.
bool is_written(uint32_t c) {
  return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c < 0x7F) || (c >= 0xA0 && c < 0x1800) ||
         (c >= 0x1E00 && c < 0x2E80) || (c >= 0x2E80 && c < 0xA000) || (c >= 0xAC00 && c < 0xE000) ||
         (c >= 0xF900 && c < 0xFFF0) || (c >= 0x1F000 && c < 0x20000);
}

// Nearly all units are written characters, and some are of ASCII, whose high bytes are zero. Other zero bytes
// are rare: they would be the low bytes of few characters.
bool reads_as(std::string_view head, const Wide& wide) {
  const size_t units = head.size() / wide.unit;
  size_t written = 0, ascii = 0, zero_low = 0;
  for (size_t i = 0; i < units; ++i) {
    const uint32_t unit = unit_at(head, i * wide.unit, wide);
    written += is_written(unit) ? 1 : 0;
    ascii += is_written(unit) && unit < 0x80 ? 1 : 0;
    zero_low += (unit & 0xFFu) == 0 ? 1 : 0;
  }
  return ascii >= 2 && ascii * 50 >= units && written * 20 >= units * 19 && zero_low * 10 <= ascii;
}

const char* unmarked_wide(std::string_view head) {
  for (const Wide& wide : kWide)
    if (reads_as(head, wide)) return wide.name;
  return nullptr;
}

std::string in_wide_units(const char* encoding, const char* mark) {
  return cat(encoding, " text", mark,
             ", not UTF-8 (its zero bytes would be taken for text). Convert it: iconv -f ", encoding,
             " -t UTF-8");
}

constexpr double kMostControls = 0.3;  // of a text's first bytes
constexpr double kFewOddBytes = 0.1;   // controls and what is no UTF-8: below, it is taken as UTF-8

}  // namespace

const char* name_of(Packing packing) {
  for (const PackingMark& mark : kPackingMarks)
    if (mark.packing == packing) return mark.name.data();
  return "none";
}

Packing packing_of(std::string_view head) {
  for (const PackingMark& mark : kPackingMarks)
    if (head.size() >= mark.first_bytes.size() && begins_as(mark, head, mark.first_bytes.size()))
      return mark.packing;
  return head.size() >= kSkippable.size() && begins_skippable(head, kSkippable.size()) ? Packing::kZstd
                                                                                       : Packing::kNone;
}

bool may_begin(Packing packing, std::string_view head) {
  if (packing == Packing::kZstd && begins_skippable(head, std::min(head.size(), kSkippable.size())))
    return true;
  return std::any_of(kPackingMarks.begin(), kPackingMarks.end(), [&](const PackingMark& mark) {
    return mark.packing == packing && begins_as(mark, head, std::min(head.size(), mark.first_bytes.size()));
  });
}

Packing packing_named(std::string_view name) {
  const auto ending = ending_of(name);
  return ending ? ending->packing : Packing::kNone;
}

std::string without_compression(std::string name) {
  while (const auto ending = ending_of(name)) name.resize(name.size() - ending->text.size());
  return name;
}

std::string why_no_text(std::string_view head) {
  if (const char* encoding = marked_as(head)) return in_wide_units(encoding, "");
  const bool has_controls = std::any_of(head.begin(), head.end(), is_control);
  for (const Container& c : kContainers) {
    if (head.size() < c.offset + c.mark.size() || head.substr(c.offset, c.mark.size()) != c.mark) continue;
    if (c.also_text && !has_controls) continue;
    return cat(c.what, ", no text (its bytes would be taken for text). ", c.to_do);
  }
  if (is_arrow_stream(head))
    return cat("an Arrow stream, no text (its bytes would be taken for text). ", kTable);
  if (!has_controls) return "";
  if (is_old_tar(head)) return cat("a tar archive, no text (its bytes would be taken for text). ", kUnpack);
  const double controls = share_of(head, is_control);
  const double zeros = share_of(head, [](char c) { return c == '\0'; });
  if (zeros > 0 && controls + invalid_share(head) > kFewOddBytes) {
    if (const char* encoding = unmarked_wide(head)) return in_wide_units(encoding, " without a mark");
  }
  if (zeros == 1)
    return "zero bytes from its beginning on (a crash or a full disk leaves such files). Get it again";
  if (controls <= kMostControls) return "";
  return cat("no text: ", static_cast<int>(100 * controls),
             " % of its first bytes are zero or control characters ",
             "(UTF-16, or a binary file). Convert it to UTF-8");
}

double invalid_share(std::string_view head) {
  if (head.empty()) return 0;
  int64_t invalid = invalid_utf8_bytes(head);
  for (size_t cut = 1; cut < 4 && cut <= head.size(); ++cut) {  // a last character without its end
    const auto lead = static_cast<unsigned char>(head[head.size() - cut]);
    if (lead >= 0xC2 && lead <= 0xF4) {
      invalid -= std::min<int64_t>(invalid, invalid_utf8_bytes(head.substr(head.size() - cut)));
      break;
    }
  }
  return static_cast<double>(invalid) / static_cast<double>(head.size());
}

}  // namespace fwl
