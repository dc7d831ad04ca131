#include "checkpoints/safetensors.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/new_file.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kLongestHeader = 100'000'000;  // the Rust reader's limit
constexpr size_t kMostDims = 64;
constexpr int64_t kMostElements = int64_t{1} << 46;  // of a tensor, its empty dims left out
constexpr size_t kAlignment = 8;                     // of the tensors' bytes in the file

struct DtypeName {
  const char* name;
  at::ScalarType dtype;
};
constexpr std::array kDtypes = {DtypeName{"F64", at::kDouble}, DtypeName{"F32", at::kFloat},
                                DtypeName{"F16", at::kHalf},   DtypeName{"BF16", at::kBFloat16},
                                DtypeName{"I64", at::kLong},   DtypeName{"I32", at::kInt},
                                DtypeName{"I16", at::kShort},  DtypeName{"I8", at::kChar},
                                DtypeName{"U8", at::kByte},    DtypeName{"BOOL", at::kBool}};

const char* name_of(at::ScalarType dtype) {
  for (const DtypeName& known : kDtypes) {
    if (known.dtype == dtype) return known.name;
  }
  throw InternalError(cat("safetensors has no dtype for ", c10::toString(dtype)));
}

at::ScalarType dtype_of(const std::string& name, const std::string& where) {
  for (const DtypeName& known : kDtypes) {
    if (name == known.name) return known.dtype;
  }
  throw DataError(cat(where, ": dtype '", name, "' is not supported. Convert the file to F32 or BF16."));
}

std::string length_bytes(uint64_t length) {
  std::string bytes(kLengthBytes, '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(length & 0xFF);
    length >>= 8;
  }
  return bytes;
}

uint64_t parse_length(const std::string& bytes) {
  uint64_t length = 0;
  for (size_t i = bytes.size(); i-- > 0;) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  return length;
}

// -1 for an absurd shape. That of an empty tensor may have no absurd dims either: its strides are products.
int64_t byte_count(const std::vector<int64_t>& shape, at::ScalarType dtype) {
  int64_t elements = 1;
  bool is_empty = false;
  for (const int64_t size : shape) {
    is_empty = is_empty || size == 0;
    if (size < 0 || __builtin_mul_overflow(elements, std::max<int64_t>(size, 1), &elements) ||
        elements > kMostElements)
      return -1;
  }
  return is_empty ? 0 : elements * static_cast<int64_t>(c10::elementSize(dtype));
}

std::ifstream open_for_reading(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const int error = errno;
  if (!in.is_open()) throw SystemError(error, cat("safetensors file '", path, "' cannot be opened"));
  return in;
}

std::string header_of(const std::vector<std::pair<std::string, Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    require<InternalError>(!header.contains(name), "tensor '", name, "' is written twice");
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    header[name] = {{"dtype", name_of(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = json_text(header);
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

void write_content(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                   const std::map<std::string, std::string>& metadata) {
  const std::string header = header_of(tensors, metadata);
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << length_bytes(header.size()) << header;
  for (const auto& [name, tensor] : tensors) {
    const Tensor host = tensor.detach().to(at::kCPU).contiguous();
    out.write(static_cast<const char*>(host.data_ptr()), static_cast<std::streamsize>(host.nbytes()));
  }
  out.close();
  const int error = errno;
  require<DataError>(out.good(), "writing '", path, "' failed: ", system_words(error), ". ",
                     advice_for(error));
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  std::error_code error;
  const auto size = static_cast<int64_t>(fs::file_size(path, error));
  if (error) throw SystemError(error.value(), cat("safetensors file '", path, "' cannot be read"));
  std::ifstream in = open_for_reading(path);
  std::string length_text(kLengthBytes, '\0');
  in.read(length_text.data(), kLengthBytes);
  const uint64_t length = in.good() ? parse_length(length_text) : 0;
  require<DataError>(in.good() && length >= 2 && length <= kLongestHeader &&
                         static_cast<int64_t>(length) <= size - kLengthBytes,
                     path, ": no safetensors header fits the file of ", size,
                     " bytes (it is cut off or something else). Fetch the file again.");
  std::string header(length, '\0');
  in.read(header.data(), static_cast<std::streamsize>(length));
  if (!in.good()) throw SystemError(EIO, cat(path, ": the header cannot be read"));
  data_offset_ = kLengthBytes + static_cast<int64_t>(length);
  parse(header, size - data_offset_);
}

void SafetensorsFile::parse(const std::string& header, int64_t data_bytes) {
  try {
    const json parsed = parse_json(header);
    require<DataError>(parsed.is_object(), path_,
                       ": the safetensors header is no JSON object (damaged). Fetch the file again.");
    for (const auto& [name, item] : parsed.items()) {
      if (name == "__metadata__") {
        metadata_ = item.get<std::map<std::string, std::string>>();
        continue;
      }
      const json& offsets = item.at("data_offsets");
      Entry& entry = entries_[name];
      entry = {dtype_of(item.at("dtype").get<std::string>(), path_ + ": " + name),
               {},
               whole_number(offsets.at(0), 0, INT64_MAX),
               whole_number(offsets.at(1), 0, INT64_MAX)};
      for (const json& size : item.at("shape")) entry.shape.push_back(whole_number(size, 0, INT64_MAX));
      require<DataError>(entry.shape.size() <= kMostDims, path_, ": tensor '", name, "' has ",
                         entry.shape.size(), " dims (the header is damaged). Fetch the file again.");
    }
  } catch (const json::exception& error) {
    throw DataError(
        cat(path_, ": the safetensors header is damaged (", error.what(), "). Fetch the file again."));
  }
  check_layout(data_bytes);
}

void SafetensorsFile::check_layout(int64_t data_bytes) const {
  std::vector<std::pair<int64_t, std::string>> order;
  for (const auto& [name, entry] : entries_) order.emplace_back(entry.begin, name);
  // Of tensors at one place all but the last are empty.
  std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    return std::pair(a.first, entries_.at(a.second).end) < std::pair(b.first, entries_.at(b.second).end);
  });
  int64_t expected = 0;
  for (const auto& [begin, name] : order) {
    const Entry& entry = entries_.at(name);
    require<DataError>(
        begin == expected && entry.end >= begin && byte_count(entry.shape, entry.dtype) == entry.end - begin,
        path_, ": tensor '", name, "' has bytes [", begin, ", ", entry.end,
        "), which do not fit its shape or its neighbours (the file is damaged). Fetch it again.");
    expected = entry.end;
  }
  require<DataError>(expected == data_bytes, path_, ": ", data_bytes,
                     " bytes of tensors, but the header speaks of ", expected,
                     " (the file is cut off or damaged). Fetch it again.");
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

Tensor SafetensorsFile::read(const std::string& name) const {
  const auto found = entries_.find(name);
  require<DataError>(found != entries_.end(), path_, ": has no tensor '", name, "'. Check the file.");
  const Entry& entry = found->second;
  Tensor tensor = at::empty(entry.shape, entry.dtype);
  std::ifstream in = open_for_reading(path_);
  in.seekg(data_offset_ + entry.begin);
  in.read(static_cast<char*>(tensor.data_ptr()), entry.end - entry.begin);
  if (!in.good()) throw SystemError(EIO, cat(path_, ": tensor '", name, "' cannot be read"));
  return tensor;
}

void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  NewFile file(path);
  write_content(file.temporary(), tensors, metadata);
  file.publish();
}

}  // namespace fwl
