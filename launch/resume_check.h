// Whether a run may go on from a checkpoint that was written with another config.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/manifest.h"
#include "launch/run_config.h"

namespace fwl {

enum class ConfigChanges { kRefuse, kAllow };

enum class ChangeKind {
  kFree,      // where and how a run runs, saves and logs: the samples and the function stay
  kAllowed,   // changes what is computed next: only with --allow-changes
  kFunction,  // the weights mean something else: never
};

struct ConfigChange {
  std::string text;  // "train.steps: 100 -> 200"
  ChangeKind kind;
};

// What a run begins with is settled: takes the starts of the decays over from the run's config, and their
// bound where `now` leaves it open (decay_max = 0), since the trained decays mean something by it alone.
// `stored` is the text of a checkpoint's config; with an empty one the bound becomes the number that `now`
// means. Says what it keeps.
void settle_decays(const std::string& stored, RunConfig* now);

// Differences between the config of a checkpoint and that of this run, in the order of the fields.
std::vector<ConfigChange> config_changes(RunConfig stored, RunConfig now);

// What this run reads.
struct DataIdentity {
  uint64_t sequence_hash = 0;
  std::string tokenizer_kind, tokenizer_bytes;
};

// Lists all differences in one log line; throws ConfigError, listing them, when one is refused. Throws
// DataError when the stored config cannot be read.
void check_resume(const CheckpointInfo& info, const RunConfig& now, const DataIdentity& data,
                  ConfigChanges allowed);

}  // namespace fwl
