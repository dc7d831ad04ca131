// The `checkpoints` folder of a run: names, listing, and which checkpoints may go.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fwl {

std::string step_name(int64_t step);  // "step-0001000"
// The step of such a name; -1 for any other name.
int64_t step_of_name(const std::string& name);

// Complete step folders in `checkpoints_dir`, newest first; empty when the folder does not exist. Throws
// UnavailableError when it cannot be listed.
std::vector<std::string> list_checkpoints(const std::string& checkpoints_dir);
// Folders of unfinished or half-removed checkpoints.
std::vector<std::string> list_unfinished(const std::string& checkpoints_dir);
// Accepts a step's folder, a `checkpoints` folder or a run's folder (then the newest). Throws DataError when
// there is none.
std::string find_checkpoint(const std::string& path);

// Whether a folder is there now.
bool is_folder(const std::string& path);
// Runs `body` on the checkpoint that find_checkpoint(path) names. Retention of a run that goes on may remove
// it meanwhile: then on the one that is the newest now.
template <typename Body>
auto with_checkpoint(const std::string& path, Body body) {
  for (int tries = 1;; ++tries) {
    const std::string step_dir = find_checkpoint(path);
    try {
      return body(step_dir);
    } catch (...) {
      if (tries == 5 || is_folder(step_dir)) throw;
    }
  }
}

// Which checkpoints stay: the `newest` newest (0: all), and those whose step `every` divides (0: none).
struct Retention {
  int64_t newest = 0;
  int64_t every = 0;
};
// Removes the others. A kill in the middle leaves no folder that looks complete. Throws DataError.
void remove_old(const std::string& checkpoints_dir, Retention retention);

// Renames checkpoints of later steps than `step`, which belong to a past that the run has not continued (it
// was resumed from before them, or they are damaged), to "aside-step-N", which nothing reads or removes;
// warns of each. Without it they would count as the newest. Throws DataError.
void set_later_aside(const std::string& checkpoints_dir, int64_t step);

// A free name beside the checkpoint `step_dir`, "aside-step-N" or "aside-step-N.2", which nothing reads or
// removes.
std::string aside_name_of(const std::string& step_dir);

// Where a checkpoint of `step` is written before it has its name.
std::string writing_dir_of(const std::string& checkpoints_dir, int64_t step);
// Removes what unfinished tries left. Throws DataError.
void remove_unfinished(const std::string& checkpoints_dir);

}  // namespace fwl
