// Whether what a checkpoint holds can be trained on or run: a run that has diverged must not replace what was
// good.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/part.h"

namespace fwl {

// All elements are finite; of weights ("weights/...") also their squares in float32, without which a norm or
// a product is not. `elements` may lie on any device, which is waited for.
bool is_sound(const std::string& tensor_name, const Tensor& elements);
// The same of all blocks, one wait for all of them.
bool is_sound(const std::vector<SliceBlock>& blocks);

}  // namespace fwl
