#include "launch/load_model.h"

#include "core/base/device.h"
#include "core/base/error.h"
#include "launch/plan/memory.h"

namespace fwl {

LoadedModel open_model(const ModelSource& source) {
  LoadedModel loaded;
  loaded.info = with_checkpoint(source.checkpoint, read_checkpoint_info);
  try {
    loaded.config = parse_run_config(loaded.info.config_yaml, loaded.info.path + "/manifest.json: config");
    validate(loaded.config.model);
  } catch (const ConfigError& error) {
    throw DataError(cat(error.what(), " (the checkpoint's config is damaged, or from another version)"));
  }
  require<DataError>(
      loaded.config.model.vocab_size > 0, loaded.info.path,
      "/manifest.json: config has no model.vocab_size (it is damaged). Use another checkpoint.");
  const std::string type = source.dtype.empty() ? loaded.config.train.dtype : source.dtype;
  // Weights are stored in float32 or float64; a checkpoint of one is not read as the other.
  require<ConfigError>((type == "fp64") == (loaded.config.train.dtype == "fp64"), "--dtype ", type,
                       " does not fit a checkpoint of train.dtype ", loaded.config.train.dtype,
                       " (its weights have another width). Leave --dtype out.");
  loaded.tokenizer =
      make_tokenizer(loaded.info.tokenizer_kind, loaded.info.tokenizer_bytes, loaded.info.path);
  return loaded;
}

namespace {

// A config may claim any size: the model is built only when the checkpoint holds about as many weights.
void require_weights_for(const RunConfig& config, const std::string& step_dir) {
  const CheckpointReader reader(step_dir);
  double stored = 0;
  for (const auto& [name, tensor] : reader.manifest().tensors)
    if (name.rfind("weights/", 0) == 0) stored += static_cast<double>(tensor.elements());
  const auto claimed = static_cast<double>(count_parameters(config.model));
  require<DataError>(claimed >= 0 && claimed <= 2 * stored + 1e6, step_dir,
                     "/manifest.json: its config is that of a model of ", claimed,
                     " weights, the checkpoint holds ", stored,
                     " (the manifest is damaged). Use another checkpoint.");
}

}  // namespace

void load_weights(LoadedModel& loaded, const ModelSource& source, int local_rank) {
  const std::string type = source.dtype.empty() ? loaded.config.train.dtype : source.dtype;
  require_weights_for(loaded.config, loaded.info.path);
  loaded.model = std::make_unique<LanguageModel>(
      loaded.config.model, choose_device(source.device, local_rank), parse_dtype(type), 0);
  loaded.model->set_inner_approximation(source.inner);
  try {
    read_checkpoint_tensors(loaded.info.path, loaded.model->parameters());
  } catch (const Error&) {
    // Retention of a run that goes on has removed it since it was opened: the newest has the same config.
    if (is_folder(loaded.info.path)) throw;
    with_checkpoint(source.checkpoint, [&](const std::string& step_dir) {
      read_checkpoint_tensors(step_dir, loaded.model->parameters());
      loaded.info = read_checkpoint_info(step_dir);
    });
  }
}

LoadedModel load_model(const ModelSource& source, int local_rank) {
  LoadedModel loaded = open_model(source);
  load_weights(loaded, source, local_rank);
  return loaded;
}

std::vector<std::string> nonfinite_parameters(const Parameters& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters.all())
    if (!parameter.value.isfinite().all().item<bool>()) names.push_back(parameter.name);
  return names;
}

std::string nonfinite_problem(const std::vector<std::string>& names) {
  if (names.empty()) return "";
  return cat("weights are not finite: tensor '", names.front(), "'",
             names.size() > 1 ? cat(" and ", names.size() - 1, " more") : "");
}

std::optional<int64_t> positions_of(const ModelConfig& config) {
  if (config.positions != "learned") return {};
  return config.max_positions > 0 ? config.max_positions : config.context;
}

}  // namespace fwl
