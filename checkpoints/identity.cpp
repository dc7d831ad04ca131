#include "checkpoints/identity.h"

#include "checkpoints/manifest.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/system_error.h"

namespace fwl {

std::string checkpoint_identity(const std::string& step_dir) {
  return std::to_string(
      hash_bytes(read_file(step_dir + "/" + kCheckpointManifest, "manifest of a checkpoint")));
}

std::string checkpoint_identity_or_gone(const std::string& step_dir) {
  try {
    return checkpoint_identity(step_dir);
  } catch (const SystemError& error) {
    if (!error.is_missing()) throw;
    return "gone";
  }
}

}  // namespace fwl
