#include "checkpoints/finite.h"

#include <limits>

namespace fwl {
namespace {

// Its square is a float32, and so is the sum of a wide row's squares.
constexpr double kLargestWeight = 1e18;

double limit_of(const std::string& tensor_name) {
  return tensor_name.rfind("weights/", 0) == 0 ? kLargestWeight : std::numeric_limits<double>::max();
}

// [] bool on the device of the elements. Least and greatest take one pass and no memory; a NaN is both.
Tensor soundness(const std::string& tensor_name, const Tensor& elements) {
  const auto type = elements.scalar_type();
  if (type != at::kFloat && type != at::kDouble) return at::isfinite(elements).all();
  const auto [least, greatest] = at::aminmax(elements);
  const Tensor largest = at::maximum(least.abs(), greatest.abs()).to(at::kDouble);
  return largest.isfinite().logical_and(largest.le(limit_of(tensor_name)));
}

}  // namespace

bool is_sound(const std::string& tensor_name, const Tensor& elements) {
  const at::NoGradGuard no_grad;
  return elements.numel() == 0 || soundness(tensor_name, elements).item<bool>();
}

bool is_sound(const std::vector<SliceBlock>& blocks) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> sound;
  for (const SliceBlock& block : blocks)
    if (block.elements.numel() > 0)
      sound.push_back(soundness(block.slices.empty() ? "" : block.slices.front().tensor, block.elements));
  return sound.empty() || at::stack(sound).all().item<bool>();
}

}  // namespace fwl
