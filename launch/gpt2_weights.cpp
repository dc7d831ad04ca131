#include "launch/gpt2_weights.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kPrefix = "transformer.";  // of all but the output matrix, or of none
constexpr const char* kHead = "lm_head.weight";

// Masks that old versions of transformers stored beside the weights.
bool is_mask(const std::string& name) {
  return name.starts_with("h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
}

bool is_part_of_gpt2(const std::string& name) {
  if (name == "wte.weight" || name == "wpe.weight" || name == "ln_f.weight" || name == "ln_f.bias" ||
      name == kHead)
    return true;
  if (!name.starts_with("h.")) return false;
  const size_t digits = 2, dot = name.find('.', digits);
  if (dot == std::string::npos || dot == digits || name.find_first_not_of("0123456789", digits) != dot)
    return false;
  const std::string part = name.substr(dot + 1), module = part.substr(0, part.rfind('.'));
  const std::string kind = part.substr(part.rfind('.') + 1);
  return (kind == "weight" || kind == "bias") &&
         (module == "ln_1" || module == "ln_2" || module == "attn.c_attn" || module == "attn.c_proj" ||
          module == "mlp.c_fc" || module == "mlp.c_proj");
}

// What another format of weights that lies there is called.
std::string other_format(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool known = name.starts_with("pytorch_model") || name == "tf_model.h5" ||
                       name == "flax_model.msgpack" || name.ends_with(".gguf") || name.ends_with(".pt") ||
                       name.ends_with(".pth") || name.ends_with(".ckpt") || name.starts_with("model.ckpt");
    if (known) return name;
  }
  return "";
}

[[noreturn]] void fail_without_weights(const std::string& folder) {
  const std::string other = other_format(folder);
  const std::string there =
      other.empty() ? std::string()
                    : cat(" (there is ", other, ", another format, which this program does not read)");
  throw DataError(
      cat("'", folder, "' has neither ", kWeights, " nor ", kIndex, there,
          ". Fetch the model in the safetensors format, or convert it: python3 -c \"from transformers import "
          "AutoModelForCausalLM as M; M.from_pretrained('",
          folder, "').save_pretrained('", folder, "', safe_serialization=True)\"."));
}

// Tensors by file, in the order of the files' names.
std::map<std::string, std::vector<std::string>> parse_index(const std::string& path) {
  std::map<std::string, std::vector<std::string>> files;
  const json index = parse_json(read_file(path, "index of weights"));
  require<DataError>(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
                     path,
                     " is no index of weights (it needs an object 'weight_map'). Fetch the file again.");
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    require<DataError>(file.is_string(), path, ": '", tensor, "' has no file's name. Fetch the file again.");
    const auto name = file.get<std::string>();
    require<DataError>(
        !name.empty() && name.find('/') == std::string::npos && name != "." && name != "..", path, ": '",
        tensor, "' is in '", name,
        "', which is no file beside it (nothing outside of the folder is read). Fetch the folder again.");
    files[name].push_back(tensor);
  }
  require<DataError>(!files.empty(), path, " names no tensor. Fetch the file again.");
  return files;
}

}  // namespace

Gpt2Weights::Gpt2Weights(const std::string& folder) {
  const std::string one = folder + "/" + kWeights, index = folder + "/" + kIndex;
  if (fs::exists(one)) {
    path_ = one;
    add_file(one, nullptr);
  } else if (fs::exists(index)) {
    path_ = index;
    add_shards(index);
  } else {
    fail_without_weights(folder);
  }
  name_tensors();
}

void Gpt2Weights::add_shards(const std::string& index) {
  const std::string folder = fs::path(index).parent_path().string();
  for (const auto& [name, tensors] : parse_index(index)) {
    const std::string path = folder + "/" + name;
    require<DataError>(fs::exists(path), path, ", which ", index,
                       " names, does not exist (a part of the weights is missing). Fetch the folder again.");
    add_file(path, &tensors);
  }
}

// `expected`: what the index says that the file holds.
void Gpt2Weights::add_file(const std::string& path, const std::vector<std::string>* expected) {
  files_.emplace_back(path);
  const SafetensorsFile& file = files_.back();
  if (expected != nullptr) {
    for (const std::string& name : *expected)
      require<DataError>(file.has(name), path, ": has no tensor '", name, "', which ", path_,
                         " says that it holds (they do not belong together). Fetch the folder again.");
  }
  for (const std::string& name : file.names()) {
    const bool is_new = places_.emplace(name, Place{files_.size() - 1, name}).second;
    require<DataError>(
        is_new, path, ": tensor '", name,
        "' is in another file of the folder too (one of them would be ignored). Fetch the folder again.");
  }
}

// From the files' names to GPT-2's. The prefix is on all tensors but the output matrix, or on none.
void Gpt2Weights::name_tensors() {
  std::map<std::string, Place> named;
  for (const auto& [name, place] : places_) {
    const bool has_prefix = name.starts_with(kPrefix);
    const std::string own = has_prefix ? name.substr(std::string(kPrefix).size()) : name;
    if (is_mask(own)) continue;
    require<DataError>(
        is_part_of_gpt2(own) && !(has_prefix && own == kHead), files_[place.file].path(), ": tensor '", name,
        "' is no part of a GPT-2 (the logits may depend on it). Give a plain GPT-2 with its weights "
        "merged.");
    require<DataError>(named.emplace(own, place).second, files_[place.file].path(), ": tensor '", own,
                       "' is there with and without '", kPrefix, "' (one would be ignored). Check the file.");
  }
  places_ = std::move(named);
}

std::vector<std::string> Gpt2Weights::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  return names;
}

Tensor Gpt2Weights::read(const std::string& name) const {
  const auto found = places_.find(name);
  require<DataError>(found != places_.end(), path_, ": has no tensor '", name, "'. Check the file.");
  const SafetensorsFile& file = files_[found->second.file];
  Tensor tensor = file.read(found->second.name);
  require<DataError>(
      at::isFloatingType(tensor.scalar_type()), file.path(), ": tensor '", name, "' has the type ",
      c10::toString(tensor.scalar_type()),
      " (weights are floating-point numbers; a quantised model is not read). Give the model itself.");
  require<DataError>(
      tensor.isfinite().all().item<bool>(), file.path(), ": tensor '", name,
      "' holds numbers that are not finite (every logit would be none). Fetch the file again, or give "
      "another model.");
  return tensor;
}

}  // namespace fwl
