#include "launch/tensorboard/step_sizes.h"

namespace fwl {

std::vector<std::pair<std::string, std::vector<float>>> step_sizes_by_row(LanguageModel& model) {
  const at::NoGradGuard no_grad;
  std::vector<std::pair<std::string, std::vector<float>>> found;
  for (const char* layer : {"dense1", "dense2", "norm"}) {
    const std::string name = std::string("fast_weight.step_size.") + layer;
    if (!model.parameters().has(name)) continue;
    Tensor values = model.parameters()[name].detach();
    if (model.config().fast_weight.step_size_space == "log") values = values.exp();
    values = values.to(at::kCPU, at::kFloat).contiguous().view({-1});
    const float* begin = values.const_data_ptr<float>();
    found.emplace_back(layer, std::vector<float>(begin, begin + values.numel()));
  }
  return found;
}

}  // namespace fwl
