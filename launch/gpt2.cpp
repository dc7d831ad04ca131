#include "launch/gpt2.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "launch/gpt2_weights.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr double kNormEpsilon = 1e-5;  // of every norm of ours
constexpr int64_t kLargestSize = int64_t{1} << 31;

// Keys of config.json that are read here, and those that do not change what a trained model computes.
const std::set<std::string> kKnownKeys = {
    "activation_function", "add_cross_attention", "layer_norm_epsilon", "model_type", "n_embd", "n_head",
    "n_inner", "n_layer", "n_positions", "scale_attn_by_inverse_layer_idx", "scale_attn_weights",
    "tie_word_embeddings", "vocab_size",
    // of training, files and programs
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "_num_labels",
    "architectures", "attn_pdrop", "dtype", "embd_pdrop", "finetuning_task", "gradient_checkpointing",
    "id2label", "initializer_range", "label2id", "license", "n_ctx", "num_labels", "output_attentions",
    "output_hidden_states", "output_past", "problem_type", "reorder_and_upcast_attn", "resid_pdrop",
    "return_dict", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
    "summary_use_proj", "tokenizer_class", "torch_dtype", "torchscript", "transformers_version",
    "use_bfloat16", "use_cache",
    // of how it generates
    "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "decoder_start_token_id", "diversity_penalty",
    "do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "length_penalty",
    "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_scores", "pad_token_id", "predict_special_tokens", "prefix",
    "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "sep_token_id",
    "suppress_tokens", "task_specific_params", "temperature", "top_k", "top_p", "typical_p",
    // of models that are no decoders; transformers writes them for all
    "chunk_size_feed_forward", "cross_attention_hidden_size", "is_decoder", "is_encoder_decoder",
    "tie_encoder_decoder", "tf_legacy_loss"};

// null, false, 0, "", [] and {} switch nothing on.
bool is_nothing(const json& value) {
  return value.is_null() || value == false || value == 0 || value == "" ||
         ((value.is_array() || value.is_object()) && value.empty());
}

// config.json with GPT-2's defaults for keys that it leaves out (transformers' GPT2Config).
class Gpt2Config {
 public:
  explicit Gpt2Config(const std::string& path) : path_(path) {
    values_ = parse_json(read_file(path, "GPT-2 config"));
    require<DataError>(values_.is_object(), path_,
                       ": no JSON object (damaged, or no model's config). Check the file.");
    expect("model_type", std::string("gpt2"));
    for (const auto& [key, value] : values_.items())
      require<DataError>(
          kKnownKeys.count(key) > 0 || is_nothing(value), path_, ": ", key, " = ",
          value.dump(-1, ' ', false, json::error_handler_t::replace),
          " is not known here (the logits may depend on it). If they do not, take the key out of the "
          "file.");
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

void expect_shape(const Gpt2Weights& file, const std::string& name, const Tensor& tensor, int64_t rows,
                  int64_t width) {
  require<DataError>(tensor.sizes() == at::IntArrayRef({rows, width}), file.path(), ": tensor '", name,
                     "' has shape ", tensor.sizes(), ", but config.json asks for [", rows, ", ", width,
                     "] (they do not belong together). Check the folder.");
}

// A matrix that is embedding and output at once may stand under either name, or under both with one content.
std::string embedding_name(const Gpt2Weights& file, const ModelConfig& config) {
  const bool has_embedding = file.has("wte.weight"), has_head = file.has("lm_head.weight");
  if (!config.tied_embedding || !has_head) return "wte.weight";
  if (!has_embedding) return "lm_head.weight";
  const Tensor embedding = file.read("wte.weight"), head = file.read("lm_head.weight");
  require<DataError>(
      embedding.sizes() == head.sizes() && at::equal(embedding.to(at::kFloat), head.to(at::kFloat)),
      file.path(),
      ": 'wte.weight' and 'lm_head.weight' are two different matrices, but config.json says that they are "
      "one (tie_word_embeddings, which is true unless it says otherwise; one of them would be ignored). "
      "Set tie_word_embeddings to what the model was trained with.");
  return "wte.weight";
}

// Before a model of config.json's sizes is made: the file has that vocabulary, those positions and exactly
// those layers. What a layer holds is compared when it is copied.
void require_same_model(const Gpt2Weights& file, const ModelConfig& config) {
  const std::string embedding = embedding_name(file, config);
  expect_shape(file, embedding, file.read(embedding), config.vocab_size, config.width);
  expect_shape(file, "wpe.weight", file.read("wpe.weight"), config.max_positions, config.width);
  int64_t layers = 0;
  for (const std::string& name : file.names())
    if (name.rfind("h.", 0) == 0)
      layers = std::max<int64_t>(layers, std::strtoll(name.c_str() + 2, nullptr, 10) + 1);
  require<DataError>(layers == config.layers, file.path(), " has ", layers,
                     " layers, but config.json says n_layer = ", config.layers,
                     " (they do not belong together). Check the folder.");
}

// Copies tensors by name. Projections are stored [in, out].
class WeightCopier {
 public:
  WeightCopier(const Gpt2Weights& file, Parameters& parameters) : file_(file), parameters_(parameters) {}

  void copy(const std::string& theirs, const std::string& ours) { assign(file_.read(theirs), theirs, ours); }
  void copy_projection(const std::string& theirs, const std::string& ours) {
    assign(file_.read(theirs + ".weight").t(), theirs, ours);
    copy(theirs + ".bias", ours + ".bias");
  }
  void copy_norm(const std::string& theirs, const std::string& ours) {
    copy(theirs + ".weight", ours + ".scale");
    copy(theirs + ".bias", ours + ".bias");
  }

 private:
  void assign(const Tensor& value, const std::string& theirs, const std::string& ours) {
    const at::NoGradGuard no_grad;
    const Tensor& target = parameters_[ours];
    require<DataError>(value.sizes() == target.sizes(), file_.path(), ": tensor '", theirs, "' has shape ",
                       value.sizes(), ", but config.json asks for ", target.sizes(),
                       " (they do not belong together). Check the folder.");
    target.copy_(value);
  }

  const Gpt2Weights& file_;
  Parameters& parameters_;
};

void copy_weights(const Gpt2Weights& file, const ModelConfig& config, Parameters& parameters) {
  WeightCopier copier(file, parameters);
  copier.copy(embedding_name(file, config), "embedding");
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
  if (!config.tied_embedding) copier.copy("lm_head.weight", "unembedding.weight");
}

// With the residual, the block before the output norm is then the identity.
void make_slow_pass_identity(Parameters& parameters) {
  const at::NoGradGuard no_grad;
  parameters["fast_weight.dense2.weight"].zero_();
  parameters["fast_weight.dense2.bias"].zero_();
}

}  // namespace

RunConfig config_of_gpt2(const std::string& folder, const std::vector<std::string>& settings) {
  return run_config(Gpt2Config(folder + "/config.json"), settings);
}

std::vector<std::string> tokenizer_files(const std::string& folder) {
  std::vector<std::string> found;
  for (const char* name :
       {"tokenizer.model", "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "vocab.bpe",
        "encoder.json", "spiece.model", "tiktoken.model", "chars.json", "tokenizer_config.json"})
    if (std::filesystem::exists(folder + "/" + name)) found.push_back(name);
  return found;
}

Gpt2Import import_gpt2(const std::string& folder, const std::vector<std::string>& settings) {
  Gpt2Import result;
  result.config = config_of_gpt2(folder, settings);
  const Gpt2Weights weights(folder);
  require_same_model(weights, result.config.model);
  result.model = std::make_unique<LanguageModel>(result.config.model, at::kCPU, at::kFloat,
                                                 static_cast<uint64_t>(result.config.train.seed));
  copy_weights(weights, result.config.model, result.model->parameters());
  if (result.config.model.fast_weight.has_block()) make_slow_pass_identity(result.model->parameters());
  return result;
}

}  // namespace fwl
