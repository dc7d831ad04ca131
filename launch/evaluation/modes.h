// The ways in which `fwl eval` reads a split.
#pragma once

#include <string>
#include <vector>

#include "core/model/language_model.h"

namespace fwl {

enum class EvalMode {
  kSlow,           // static: the slow weights alone
  kSlowCarried,    // the same, with the attention window that goes on from window to window
  kFast,           // fast weights, from zero in every window
  kCarried,        // fast weights that go on from window to window
  kFastUntrained,  // fast weights added to a control at test time
  kDynamic,        // dynamic evaluation of the slow weights
  kFastDynamic,    // scores with the fast weights; dynamic evaluation learns the slow ones from the same loss
  kCarriedDynamic  // the same with fast weights that go on from window to window
};

struct ModeTraits {
  EvalMode mode;
  const char* name;  // as --modes spells it
  Pass pass;         // what predicts
  bool carries;      // what is remembered goes on from window to window: fast weights, a window of attention
  bool adapts;       // gradient steps on the slow weights
};
const ModeTraits& traits_of(EvalMode mode);
// Of inputs that an earlier window has scored: fast weights that start from zero learn from them again,
// carried ones have learned them already.
inline bool learns_from_overlap(const ModeTraits& mode) {
  return mode.pass == Pass::kFast && !mode.carries;
}
inline const char* name_of(EvalMode mode) {
  return traits_of(mode).name;
}
// Throws ConfigError when the mode reads with fast weights and such a model has none.
void require_fast_weights(EvalMode mode, const ModelConfig& model);
// Throws ConfigError that lists the modes.
EvalMode parse_eval_mode(const std::string& name);
// "slow, fast, ..."
std::string eval_mode_names();

}  // namespace fwl
