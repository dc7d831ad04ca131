#include "launch/load_model.h"

#include "core/base/device.h"
#include "core/base/error.h"

namespace fwl {

LoadedModel load_model(const ModelSource& source, int local_rank) {
  LoadedModel loaded;
  loaded.info = read_checkpoint_info(find_checkpoint(source.checkpoint));
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
  loaded.model = std::make_unique<LanguageModel>(
      loaded.config.model, choose_device(source.device, local_rank), parse_dtype(type), 0);
  loaded.model->set_inner_approximation(source.inner);
  read_checkpoint_tensors(loaded.info.path, loaded.model->parameters(), nullptr, nullptr);
  loaded.tokenizer =
      make_tokenizer(loaded.info.tokenizer_kind, loaded.info.tokenizer_bytes, loaded.info.path);
  return loaded;
}

}  // namespace fwl
