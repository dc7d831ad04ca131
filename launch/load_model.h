// A trained model from a checkpoint, with what belongs to it.
#pragma once

#include <memory>
#include <string>

#include "checkpoints/checkpoint.h"
#include "core/model/language_model.h"
#include "data/tokenizer.h"
#include "launch/run_config.h"

namespace fwl {

struct LoadedModel {
  RunConfig config;
  CheckpointInfo info;
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<Tokenizer> tokenizer;
};

// Which trained model a command runs, and how.
struct ModelSource {
  std::string checkpoint;  // a run's folder or one of its checkpoints
  std::string device = "auto";
  std::string dtype;  // empty: as it was trained
  InnerApproximation inner{};
};
// `local_rank` picks the GPU. Throws DataError, ConfigError.
LoadedModel load_model(const ModelSource& source, int local_rank = 0);

}  // namespace fwl
