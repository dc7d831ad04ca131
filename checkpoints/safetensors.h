// Files of Hugging Face's safetensors format: an 8-byte little-endian length, a JSON header of that length
// (name -> dtype, shape, data_offsets; "__metadata__": strings), the tensors' bytes without gaps.
// https://huggingface.co/docs/safetensors (format as of 0.7). Tensors are read and written one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/torch.h"

namespace fwl {

class SafetensorsFile {
 public:
  // Reads and checks the header. Throws DataError: missing, cut off, damaged, gaps or overlaps, unknown
  // dtype.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return path_; }
  std::vector<std::string> names() const;  // sorted
  bool has(const std::string& name) const { return entries_.count(name) > 0; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // A CPU tensor of the stored dtype and shape. Throws DataError for an unknown name or a failed read.
  Tensor read(const std::string& name) const;

 private:
  struct Entry {
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    int64_t begin, end;  // bytes after the header
  };
  void parse(const std::string& header, int64_t data_bytes);
  void check_layout(int64_t data_bytes) const;

  std::string path_;
  int64_t data_offset_ = 0;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Writes the tensors (any device and strides) in the order given, by temporary file, sync and rename. Throws
// DataError; a file that was there stays as it was.
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace fwl
