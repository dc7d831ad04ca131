// The tensors of a Hugging Face GPT-2's folder, in one file or in the shards of an index, by GPT-2's own
// names.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoints/safetensors.h"

namespace fwl {

class Gpt2Weights {
 public:
  // model.safetensors, or the shards that model.safetensors.index.json names. Throws DataError for neither
  // (naming the conversion where there is another format), for shards that are missing or lie outside, and
  // for tensors that no GPT-2 has.
  explicit Gpt2Weights(const std::string& folder);

  const std::string& path() const { return path_; }
  // Names are GPT-2's without a prefix: "wte.weight", "h.0.ln_1.bias"; "lm_head.weight".
  bool has(const std::string& name) const { return places_.count(name) > 0; }
  // On the CPU, of the stored dtype and shape. Throws DataError: no such tensor, a failed read, or numbers
  // that are not finite.
  Tensor read(const std::string& name) const;
  std::vector<std::string> names() const;

 private:
  struct Place {
    size_t file;
    std::string name;  // as the file has it
  };
  void add_file(const std::string& path, const std::vector<std::string>* expected);
  void add_shards(const std::string& index);
  void name_tensors();

  std::string path_;  // of the one file, or of the index
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place> places_;
};

}  // namespace fwl
