#include "launch/evaluation/modes.h"

#include "core/base/error.h"

namespace fwl {
namespace {

constexpr ModeTraits kModes[] = {
    {EvalMode::kSlow, "slow", Pass::kSlow, false, false},
    {EvalMode::kSlowCarried, "slow-carried", Pass::kSlow, true, false},
    {EvalMode::kFast, "fast", Pass::kFast, false, false},
    {EvalMode::kCarried, "carried", Pass::kFast, true, false},
    {EvalMode::kFastUntrained, "fast-untrained", Pass::kFast, false, false},
    {EvalMode::kDynamic, "dynamic", Pass::kSlow, false, true},
    {EvalMode::kFastDynamic, "fast-dynamic", Pass::kFast, false, true},
    {EvalMode::kCarriedDynamic, "carried-dynamic", Pass::kFast, true, true},
};

}  // namespace

const ModeTraits& traits_of(EvalMode mode) {
  for (const ModeTraits& traits : kModes)
    if (traits.mode == mode) return traits;
  throw InternalError("unknown evaluation mode");
}

void require_fast_weights(EvalMode mode, const ModelConfig& model) {
  require<ConfigError>(traits_of(mode).pass == Pass::kSlow || model.fast_weight.learns(), "--modes ",
                       name_of(mode),
                       ": this model has no fast weights (it was trained with "
                       "model.fast_weight.update=none). Leave it out.");
}

EvalMode parse_eval_mode(const std::string& name) {
  for (const ModeTraits& traits : kModes)
    if (name == traits.name) return traits.mode;
  throw ConfigError(cat("mode '", name, "' does not exist. Choose among ", eval_mode_names(), "."));
}

std::string eval_mode_names() {
  std::string names;
  for (const ModeTraits& traits : kModes) names += (names.empty() ? "" : ", ") + std::string(traits.name);
  return names;
}

}  // namespace fwl
