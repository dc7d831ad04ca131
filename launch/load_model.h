// A trained model from a checkpoint, with what belongs to it. What the checkpoint says of itself is known
// before its weights are read, so that a command can refuse what does not fit before its first second of
// work.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "core/model/language_model.h"
#include "data/tokenizer.h"
#include "launch/run_config.h"

namespace fwl {

struct LoadedModel {
  RunConfig config;
  CheckpointInfo info;
  std::unique_ptr<LanguageModel> model;  // null until the weights are loaded
  std::unique_ptr<Tokenizer> tokenizer;
};

// Which trained model a command runs, and how.
struct ModelSource {
  std::string checkpoint;  // a run's folder or one of its checkpoints
  std::string device = "auto";
  std::string dtype;  // empty: as it was trained
  InnerApproximation inner{};
};
// Everything but the weights. Throws DataError, ConfigError.
LoadedModel open_model(const ModelSource& source);
// Adds the weights. `local_rank` picks the GPU. Throws DataError, ConfigError.
void load_weights(LoadedModel& loaded, const ModelSource& source, int local_rank = 0);
// Both.
LoadedModel load_model(const ModelSource& source, int local_rank = 0);

// Names of the parameters that hold a NaN or an infinity, in order.
std::vector<std::string> nonfinite_parameters(const Parameters& parameters);
// What to say of them, naming the first: "weights are not finite: tensor 'a' and 3 others". Empty for none.
std::string nonfinite_problem(const std::vector<std::string>& names);
// How many tokens a text may have, the document start counted: of a model that has learned its positions.
// Nothing for the others.
std::optional<int64_t> positions_of(const ModelConfig& config);

}  // namespace fwl
