// Model, optimizer and gradient of one rank, and the step that they make together: what trains, is verified
// and is measured.
#pragma once

#include <c10/core/Event.h>

#include <functional>
#include <memory>
#include <optional>

#include "core/model/language_model.h"
#include "launch/run_config.h"
#include "launch/step_gradient.h"
#include "parallel/mesh.h"
#include "parallel/sharded_optimizer.h"

namespace fwl {

// What came of a step. The device may still be at it: the host queues the next step meanwhile.
class StepOutcome {
 public:
  struct Numbers {
    LossSums own;  // this rank's
    double gradient_norm = 0;
    bool skipped = false;  // the norm is not finite: nothing was updated
  };
  // `loss_sums` ([2]: main, slow) and `norm` ([]), float64 on the device.
  StepOutcome(const Tensor& loss_sums, const Tensor& norm);
  // Waits until the device has them.
  Numbers wait() const;

 private:
  Tensor host_;                         // [3]
  std::shared_ptr<c10::Event> copied_;  // on a GPU
};

class TrainingStep {
 public:
  // Collective over the mesh's world; `config` and `mesh` outlive the object. config.model.vocab_size is set.
  TrainingStep(const RunConfig& config, Mesh& mesh, at::Device device);

  LanguageModel& model() { return model_; }
  ShardedOptimizer& optimizer() { return optimizer_; }
  StepGradient& gradient() { return gradient_; }

  // Collective over the world. The gradient of this rank's share of a global batch with `tokens`
  // loss-weighted tokens, summed over all ranks.
  LossSums compute_gradient(const StepGradient::BatchSource& source, double tokens);
  // The same and the update (train.clip_norm), all of it queued: on a GPU nothing waits for the device.
  // Weights and moments stay as they are until `before_update` has returned.
  StepOutcome run(
      const StepGradient::BatchSource& source, double tokens, double learning_rate,
      const std::function<void()>& before_update = [] {});

 private:
  const RunConfig& config_;
  LanguageModel model_;
  ShardedOptimizer optimizer_;  // before the gradient: it may release values, which makes new leaves
  StepGradient gradient_;
};

}  // namespace fwl
