#include "launch/gpt2.h"

#include <nlohmann/json.hpp>

#include "checkpoints/safetensors.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr double kNormEpsilon = 1e-5;  // of every norm of ours
constexpr int64_t kLargestSize = int64_t{1} << 31;

// config.json with GPT-2's defaults for keys that it leaves out (transformers' GPT2Config).
class Gpt2Config {
 public:
  explicit Gpt2Config(const std::string& path) : path_(path) {
    values_ = parse_json(read_file(path, "GPT-2 config"));
    require<DataError>(values_.is_object(), path_,
                       ": no JSON object (damaged, or no model's config). Check the file.");
    expect("model_type", std::string("gpt2"));
    expect("scale_attn_weights", true);
    expect("scale_attn_by_inverse_layer_idx", false);
    expect("add_cross_attention", false);
    expect("layer_norm_epsilon", kNormEpsilon);
    const auto activation = get<std::string>("activation_function", "gelu_new");
    require<DataError>(activation == "gelu_new" || activation == "gelu_pytorch_tanh", path_,
                       ": activation_function = '", activation,
                       "' is not supported (the logits would differ). Supported is gelu_new.");
  }

  template <typename T>
  T get(const char* key, T otherwise) const {
    if (!values_.is_object() || !values_.contains(key) || values_.at(key).is_null()) return otherwise;
    try {
      return values_.at(key).get<T>();
    } catch (const json::exception&) {
      throw DataError(
          cat(path_, ": ", key, " = ", values_.at(key).dump(), " has another type than GPT-2's. Check it."));
    }
  }

  // A size of the model.
  int64_t count(const char* key, int64_t otherwise) const {
    const auto value = get<int64_t>(key, otherwise);
    require<DataError>(value >= 1 && value <= kLargestSize, path_, ": ", key, " = ", value,
                       " is no size of a model. Check the file.");
    return value;
  }

 private:
  // Where the key is left out, it has the supported value.
  template <typename T>
  void expect(const char* key, const T& supported) const {
    require<DataError>(
        get(key, supported) == supported, path_, ": ", key, " = ", values_.value(key, json()).dump(),
        " is not supported (the logits would differ). Supported is ", json(supported).dump(), ".");
  }

  std::string path_;
  json values_;
};

ModelConfig model_config(const Gpt2Config& gpt2) {
  ModelConfig c;
  c.layers = gpt2.count("n_layer", 12);
  c.width = gpt2.count("n_embd", 768);
  c.heads = gpt2.count("n_head", 12);
  c.context = c.max_positions = gpt2.count("n_positions", 1024);
  c.vocab_size = gpt2.count("vocab_size", 50257);
  c.tied_embedding = gpt2.get<bool>("tie_word_embeddings", true);
  const int64_t inner = gpt2.count("n_inner", 4 * c.width);
  c.feed_forward_ratio = static_cast<double>(inner) / static_cast<double>(c.width);
  c.norm = "layer";
  c.feed_forward = "gelu";
  c.positions = "learned";
  c.projection_biases = true;
  return c;
}

// What a setting may change of an imported model: how far it looks, and the layer on top.
bool is_free(const std::string& path) {
  return path == "context" || path == "window" || path.rfind("fast_weight.", 0) == 0;
}

void require_same_shape(ModelConfig gpt2, ModelConfig chosen) {
  for (const std::string& difference : differences(fields_of(gpt2), fields_of(chosen))) {
    const std::string path = difference.substr(0, difference.find(':'));
    require<ConfigError>(is_free(path), "model.", difference,
                         " is not GPT-2's (its weights would not fit). Leave this setting out.");
  }
  require<ConfigError>(chosen.fast_weight.residual,
                       "model.fast_weight.residual=false cannot keep GPT-2's logits (the "
                       "layer would not start as the identity). Leave this setting out.");
}

RunConfig run_config(const Gpt2Config& gpt2, const std::vector<std::string>& settings) {
  RunConfig config;
  config.model = model_config(gpt2);
  const ModelConfig original = config.model;
  const FieldList fields = fields_of(config);
  apply_setting(fields, "train.resume=auto");
  for (const std::string& setting : settings) apply_setting(fields, setting);
  require_same_shape(original, config.model);
  validate(config.model);
  return config;
}

// How files name GPT-2's tensors: with or without this.
std::string prefix_of(const SafetensorsFile& file) {
  return file.has("transformer.wte.weight") ? "transformer." : "";
}

// Before a model of config.json's sizes is made: the file has that vocabulary, those positions and exactly
// those layers. What a layer holds is compared when it is copied.
void require_same_model(const SafetensorsFile& file, const ModelConfig& config) {
  const std::string prefix = prefix_of(file);
  const auto expect_shape = [&](const char* name, int64_t rows) {
    const Tensor tensor = file.read(prefix + name);
    require<DataError>(tensor.sizes() == at::IntArrayRef({rows, config.width}), file.path(), ": tensor '",
                       name, "' has shape ", tensor.sizes(), ", but config.json asks for [", rows, ", ",
                       config.width, "] (they do not belong together). Check the folder.");
  };
  expect_shape("wte.weight", config.vocab_size);
  expect_shape("wpe.weight", config.max_positions);
  int64_t layers = 0;
  while (file.has(cat(prefix, "h.", layers, ".ln_1.weight"))) ++layers;
  require<DataError>(layers == config.layers, file.path(), " has ", layers,
                     " layers, but config.json says n_layer = ", config.layers,
                     " (they do not belong together). Check the folder.");
}

// Copies tensors by name. Files name them "transformer.h.0..." or "h.0..."; projections are stored [in, out].
class WeightCopier {
 public:
  WeightCopier(const SafetensorsFile& file, Parameters& parameters)
      : file_(file), parameters_(parameters), prefix_(prefix_of(file)) {}

  void copy(const std::string& theirs, const std::string& ours) {
    assign(file_.read(prefix_ + theirs), theirs, ours);
  }
  void copy_projection(const std::string& theirs, const std::string& ours) {
    assign(file_.read(prefix_ + theirs + ".weight").t(), theirs, ours);
    copy(theirs + ".bias", ours + ".bias");
  }
  void copy_norm(const std::string& theirs, const std::string& ours) {
    copy(theirs + ".weight", ours + ".scale");
    copy(theirs + ".bias", ours + ".bias");
  }
  void copy_head() { assign(file_.read("lm_head.weight"), "lm_head.weight", "unembedding.weight"); }

 private:
  void assign(const Tensor& value, const std::string& theirs, const std::string& ours) {
    const at::NoGradGuard no_grad;
    const Tensor& target = parameters_[ours];
    require<DataError>(value.sizes() == target.sizes(), file_.path(), ": tensor '", theirs, "' has shape ",
                       value.sizes(), ", but config.json asks for ", target.sizes(),
                       " (they do not belong together). Check the folder.");
    target.copy_(value);
  }

  const SafetensorsFile& file_;
  Parameters& parameters_;
  std::string prefix_;
};

void copy_weights(const SafetensorsFile& file, const ModelConfig& config, Parameters& parameters) {
  WeightCopier copier(file, parameters);
  copier.copy("wte.weight", "embedding");
  copier.copy("wpe.weight", "positions");
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string theirs = cat("h.", layer, "."), ours = cat("body.", layer, ".");
    copier.copy_norm(theirs + "ln_1", ours + "norm1");
    copier.copy_projection(theirs + "attn.c_attn", ours + "attention.qkv");
    copier.copy_projection(theirs + "attn.c_proj", ours + "attention.out");
    copier.copy_norm(theirs + "ln_2", ours + "norm2");
    copier.copy_projection(theirs + "mlp.c_fc", ours + "feed_forward.up");
    copier.copy_projection(theirs + "mlp.c_proj", ours + "feed_forward.down");
  }
  copier.copy_norm("ln_f", "fast_weight.norm");
  if (!config.tied_embedding) copier.copy_head();
}

// With the residual, the block before the output norm is then the identity.
void make_slow_pass_identity(Parameters& parameters) {
  const at::NoGradGuard no_grad;
  parameters["fast_weight.dense2.weight"].zero_();
  parameters["fast_weight.dense2.bias"].zero_();
}

}  // namespace

Gpt2Import import_gpt2(const std::string& folder, const std::vector<std::string>& settings) {
  const Gpt2Config gpt2(folder + "/config.json");
  const SafetensorsFile weights(folder + "/model.safetensors");
  Gpt2Import result;
  result.config = run_config(gpt2, settings);
  require_same_model(weights, result.config.model);
  result.model = std::make_unique<LanguageModel>(result.config.model, at::kCPU, at::kFloat,
                                                 static_cast<uint64_t>(result.config.train.seed));
  copy_weights(weights, result.config.model, result.model->parameters());
  if (result.config.model.fast_weight.has_block()) make_slow_pass_identity(result.model->parameters());
  return result;
}

}  // namespace fwl
