#include "launch/resume.h"

#include <exception>

#include "checkpoints/identity.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "parallel/texts.h"

namespace fwl {
namespace {

// Runs `body` on all ranks. The problem of this rank, or that another rank has one; empty when none has.
// Throws UnavailableError on all ranks when one cannot read the checkpoint: taken for damaged, the run would
// go back to an older one, or start afresh, because of a missing right or a file server that rests.
template <typename Body>
std::string problem_of(Communicator& group, Body body) {
  std::string problem;
  bool unavailable = false;
  try {
    body();
  } catch (const DataError& error) {
    problem = error.what();
  } catch (const UnavailableError& error) {
    problem = error.what();
    unavailable = true;
  }
  if (all_agree(group, problem.empty() ? Vote::kYes : Vote::kNo)) return {};
  const bool everywhere_readable = all_agree(group, unavailable ? Vote::kNo : Vote::kYes);
  if (!everywhere_readable)
    throw UnavailableError(unavailable
                               ? cat(problem, " The run is not resumed from an older checkpoint meanwhile.")
                               : "another rank cannot read the checkpoint (see its message).");
  return problem.empty() ? "another rank cannot use the checkpoint (see its message)." : problem;
}

// The problem with the checkpoint, or nothing: then it is loaded.
std::string try_checkpoint(const std::string& step_dir, const ResumeSteps& steps, Communicator& group,
                           std::optional<CheckpointInfo>* loaded) {
  std::optional<CheckpointReader> reader;
  std::string identity;
  std::string problem = problem_of(group, [&] {
    reader.emplace(step_dir);
    identity = checkpoint_identity(step_dir);
    reader->check_files(group.rank(), group.size());
  });
  if (!problem.empty()) return problem;
  require_same_facts(group, cat("the checkpoint '", step_dir, "'"), {{"manifest's hash", identity}},
                     "(the ranks would go on from different weights). Give all hosts the same checkpoint.");
  steps.check(reader->info());
  problem = problem_of(group, [&] { steps.load(*reader); });
  if (problem.empty()) *loaded = reader->info();
  return problem;
}

// On rank 0, newest first.
std::vector<std::string> look_for(const std::string& from, const std::string& checkpoints_dir) {
  if (from == "none") return {};
  return from == "auto" ? list_checkpoints(checkpoints_dir) : std::vector<std::string>{find_checkpoint(from)};
}

// Rank 0's on all ranks: ranks that list a shared folder themselves may see different things.
std::vector<std::string> candidates(const std::string& from, const std::string& checkpoints_dir,
                                    Communicator& group) {
  std::string text;
  on_all_ranks(group, [&] {
    if (group.rank() != 0) return;
    for (const std::string& dir : look_for(from, checkpoints_dir)) text += dir + "\n";
    if (from == "auto")
      for (const std::string& dir : list_unfinished(checkpoints_dir))
        log_warn(cat("'", dir, "' is an unfinished checkpoint. Passed over."));
  });
  return lines_of(broadcast_text(group, std::move(text)));
}

// Whether the run that `step_dir` is of has removed it since it was found.
bool is_gone(const std::string& step_dir, Communicator& group) {
  return !all_agree(group, group.rank() != 0 || is_folder(step_dir) ? Vote::kYes : Vote::kNo);
}

std::string first_readable_config(const std::vector<std::string>& step_dirs) {
  for (const std::string& step_dir : step_dirs) {
    try {
      return read_checkpoint_info(step_dir).config_yaml;
    } catch (const Error&) {
      // Named when it is its turn to be read.
    }
  }
  return {};
}

}  // namespace

std::string config_to_resume(const std::string& from, const std::string& checkpoints_dir,
                             Communicator& group) {
  std::string text;
  on_all_ranks(group, [&] {
    if (group.rank() == 0) text = first_readable_config(look_for(from, checkpoints_dir));
  });
  return broadcast_text(group, std::move(text));
}

std::optional<CheckpointInfo> resume_from(const std::string& from, const std::string& checkpoints_dir,
                                          const ResumeSteps& steps, Communicator& group) {
  std::optional<CheckpointInfo> loaded;
  if (from == "none") return loaded;
  constexpr int kMostTries = 5;  // of a run that goes on and removes what was found
  std::vector<std::string> found = candidates(from, checkpoints_dir, group);
  int tries = 1;
  for (size_t i = 0; i < found.size(); ++i) {
    const std::string step_dir = found[i];
    std::string problem;
    std::exception_ptr unavailable;  // on all ranks or on none
    try {
      problem = try_checkpoint(step_dir, steps, group, &loaded);
    } catch (const UnavailableError&) {
      unavailable = std::current_exception();
    }
    if (!unavailable && problem.empty()) {
      log_info(cat("resumed from ", step_dir, " at step ", loaded->progress.step));
      return loaded;
    }
    if (from != "auto" && is_gone(step_dir, group) && tries++ < kMostTries) {
      found = candidates(from, checkpoints_dir, group);
      --i;
      continue;
    }
    if (unavailable) std::rethrow_exception(unavailable);
    require<DataError>(from == "auto", problem);
    log_warn(cat(problem, " Passed over: trying the checkpoint before it."));
  }
  // Starting afresh here would overwrite a run that only needs help.
  require<DataError>(
      found.empty(), "none of the ", found.size(), " checkpoints in '", checkpoints_dir,
      "' can be used (see the warnings above). Repair them, or use train.resume=none, which sets the "
      "old run aside and starts afresh.");
  log_info("train.resume=auto: no checkpoint yet, starting at step 0");
  return loaded;
}

}  // namespace fwl
