// What a config says that a user should know before the first step: settings that change nothing, a warm-up
// that never ends, a key that was set twice. Nothing of it stops a run: a baseline by one --set leaves such
// settings in its file on purpose.
#pragma once

#include <string>
#include <vector>

#include "launch/run_config.h"

namespace fwl {

// One line each. `settings` are those of --set; in a file, a setting counts as given when it is not the
// default.
std::vector<std::string> notes_on(RunConfig config, const std::vector<std::string>& settings);

}  // namespace fwl
