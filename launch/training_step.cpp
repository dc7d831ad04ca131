#include "launch/training_step.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <cmath>

#include "core/base/device.h"

namespace fwl {

StepOutcome::StepOutcome(const Tensor& loss_sums, const Tensor& norm) {
  const Tensor numbers = at::cat({loss_sums, norm.view({1})});
  if (!numbers.is_cuda()) {
    host_ = numbers;
    return;
  }
  host_ = at::empty({3}, at::TensorOptions().dtype(at::kDouble).pinned_memory(true));
  host_.copy_(numbers, /*non_blocking=*/true);
  copied_ = std::make_shared<c10::Event>(numbers.device().type());
  copied_->record(c10::impl::VirtualGuardImpl(numbers.device().type()).getStream(numbers.device()));
}

StepOutcome::Numbers StepOutcome::wait() const {
  if (copied_) copied_->synchronize();
  const auto* values = host_.const_data_ptr<double>();
  return {{values[0], values[1]}, values[2], !std::isfinite(values[2])};
}

TrainingStep::TrainingStep(const RunConfig& config, Mesh& mesh, at::Device device)
    : config_(config),
      model_(config.model, device, parse_dtype(config.train.dtype), static_cast<uint64_t>(config.train.seed)),
      optimizer_(mesh.world(), model_.parameters(), config.train.optimizer, config.parallel.sharding(),
                 config.parallel.bucket_bytes()),
      gradient_(model_, mesh, config) {}

LossSums TrainingStep::compute_gradient(const StepGradient::BatchSource& source, double tokens) {
  model_.parameters().zero_gradients();
  const Tensor host = gradient_.accumulate(source, tokens).to(at::kCPU);
  return {host[0].item<double>(), host[1].item<double>()};
}

StepOutcome TrainingStep::run(const StepGradient::BatchSource& source, double tokens, double learning_rate,
                              const std::function<void()>& before_update) {
  model_.parameters().zero_gradients();
  const Tensor sums = gradient_.accumulate(source, tokens);
  before_update();
  return StepOutcome(sums, optimizer_.step(learning_rate, config_.train.clip_norm));
}

}  // namespace fwl
