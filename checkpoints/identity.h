// Which checkpoint it is: copies of one are alike, other ones of the same step are not.
#pragma once

#include <string>

namespace fwl {

// A hash of the manifest of a step's folder, which holds the checksums of all else. Throws UnavailableError.
std::string checkpoint_identity(const std::string& step_dir);
// The same; "gone" where nothing lies there any more: retention of a run that goes on removes what is old.
std::string checkpoint_identity_or_gone(const std::string& step_dir);

}  // namespace fwl
