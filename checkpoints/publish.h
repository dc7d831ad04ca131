// Making a checkpoint visible: what rank 0 does before and after the ranks write their parts.
#pragma once

#include <string>

#include "checkpoints/folder.h"
#include "checkpoints/manifest.h"
#include "checkpoints/part.h"

namespace fwl {

// Removes what unfinished tries left and makes the folder that the ranks write into; returns it. Throws
// DataError.
std::string prepare_checkpoint(const std::string& checkpoints_dir, int64_t step);

// After all `info.layout.ranks` ranks have written their parts: merges their indexes, writes tokenizer and
// manifest, verifies, renames the folder, replaces `latest`, and removes old checkpoints. Returns the
// checkpoint's folder. Throws DataError; the checkpoints that were there stay whole.
std::string publish_checkpoint(const std::string& checkpoints_dir, const CheckpointInfo& info,
                               Retention retention);

// All of it for one rank that owns everything: prepare, write_part, publish. Blocks lie in host memory.
std::string write_checkpoint(const std::string& checkpoints_dir, const CheckpointInfo& info,
                             const std::vector<SliceBlock>& blocks, Retention retention = {});

}  // namespace fwl
