// No token moves an earlier prediction. Every edit changes one token (or one label) of a batch; the logits of
// all positions before it must stay the same bit for bit, those from it on must not all stay. Runs under any
// layout, over two windows of a stream, so that shards, documents and carried state are crossed.
#pragma once

#include <string>
#include <vector>

#include "core/model/language_model.h"
#include "launch/run_config.h"

namespace fwl {

struct CausalityReport {
  std::string layout, dtype, device;
  int64_t edits = 0;                 // forward passes compared
  int64_t windows = 0;               // 2: carried state was crossed
  std::vector<std::string> leaks;    // "token 31 moved the logits at 30 (fast pass, ...)"
  std::vector<std::string> effects;  // edits without any effect where there must be one
  bool passed() const { return edits > 0 && leaks.empty() && effects.empty(); }
};

// Collective over the world. `checkpoint`: a trained model's folder, or empty for a fresh model of the
// config. The report is the same on all ranks.
CausalityReport check_causality(RunConfig config, const std::string& checkpoint);

}  // namespace fwl
