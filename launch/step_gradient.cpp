#include "launch/step_gradient.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/model/fused_parts.h"
#include "parallel/sharded_optimizer.h"

namespace fwl {
namespace {

StreamState joined(const std::vector<StreamState>& parts) {
  const auto join = [&](auto tensor_of) {
    std::vector<Tensor> tensors;
    for (const StreamState& p : parts) tensors.push_back(tensor_of(p));
    return tensors.front().defined() ? at::cat(tensors, 0) : Tensor();
  };
  StreamState all;
  all.position = parts.front().position;
  for (size_t i = 0; i < parts.front().layers.size(); ++i) {
    all.layers.push_back({join([&](const StreamState& p) { return p.layers[i].key_bhte; }),
                          join([&](const StreamState& p) { return p.layers[i].value_bhte; })});
  }
  all.fast = {join([](const StreamState& p) { return p.fast.dense1_bfd; }),
              join([](const StreamState& p) { return p.fast.dense2_bdf; }),
              join([](const StreamState& p) { return p.fast.norm_bd; })};
  return all;
}

}  // namespace

BatchShare batch_share(const RunConfig& config, const MeshShape& shape, int data_rank, int sequence_rank) {
  BatchShare share;
  share.rows = config.train.global_batch / shape.data;
  share.first_row = share.rows * data_rank;
  share.positions = config.model.context / shape.sequence;
  share.first_position = share.positions * sequence_rank;
  return share;
}

StepGradient::StepGradient(LanguageModel& model, Mesh& mesh, const RunConfig& config)
    : model_(model),
      mesh_(mesh),
      config_(config),
      share_(batch_share(config, mesh.shape(), mesh.data_rank(), mesh.sequence_rank())),
      micro_rows_(config.train.micro_batch > 0 ? std::min(config.train.micro_batch, share_.rows)
                                               : share_.rows),
      reducer_(mesh.world(), model.parameters(), reducer_options_of(config)) {
  for (int64_t done = 0; done < share_.rows; done += micro_rows_) views_.push_back(make_view());
}

std::unique_ptr<SequenceView> StepGradient::make_view() const {
  const bool stream = config_.train.stream, documents = config_.data.order == "documents";
  if (mesh_.shape().sequence > 1) {
    return std::make_unique<ShardedSequence>(mesh_.sequence(), config_.model, share_.positions,
                                             sequence_exchange_of(config_),
                                             !stream     ? Stream::kNone
                                             : documents ? Stream::kStateContinued
                                                         : Stream::kContinued);
  }
  if (stream)
    return std::make_unique<ContinuedSequence>(FullAttention::kForgets,
                                               documents ? WindowMemory::kForgotten : WindowMemory::kKept);
  return std::make_unique<WholeSequence>();
}

TrainingLoss StepGradient::loss_of(const TokenBatch& batch, double tokens, SequenceView& view) {
  if (norms_ == nullptr) return model_.training_loss(batch, 1.0 / tokens, view);
  const bool last = mesh_.sequence_rank() + 1 == mesh_.shape().sequence;
  using Shard = WatchedSequence::Shard;
  WatchedSequence watched(view, *norms_, last ? Shard::kLast : Shard::kEarlier);
  return model_.training_loss(batch, 1.0 / tokens, watched);
}

Tensor StepGradient::accumulate(const BatchSource& source, double tokens) {
  Tensor sums = at::zeros({2}, at::TensorOptions().dtype(at::kDouble).device(model_.device()));
  for (size_t i = 0; i < views_.size(); ++i) {
    const int64_t done = static_cast<int64_t>(i) * micro_rows_;
    const TokenBatch batch = source(share_.first_row + done, std::min(micro_rows_, share_.rows - done));
    const TrainingLoss loss = loss_of(batch, tokens, *views_[i]);
    if (i + 1 == views_.size()) reducer_.expect_last_backward();
    model_.parameters().backward(loss.objective);
    sums.add_(at::stack({loss.main_sum, loss.slow_sum}).to(at::kDouble));
  }
  reducer_.reduce();
  return sums;
}

StreamState StepGradient::stream_state() const {
  std::vector<StreamState> parts;
  for (const auto& view : views_) parts.push_back(view->stream_state());
  return joined(parts);
}

void StepGradient::set_stream_state(const StreamState& state) {
  for (size_t i = 0; i < views_.size(); ++i) {
    const int64_t done = static_cast<int64_t>(i) * micro_rows_;
    views_[i]->set_stream_state(rows_of(state, done, std::min(micro_rows_, share_.rows - done)));
  }
}

std::string StepGradient::describe_kernels() const {
  const int64_t ranks = mesh_.shape().sequence;
  ForwardShape shape{model_.device(), model_.compute_type(), micro_rows_, share_.positions};
  shape.gradient = true;
  // All-to-all gives a rank whole sequences of some heads.
  if (ranks > 1 &&
      choose_attention_algorithm(config_.parallel.attention, mesh_.shape().sequence, config_.model.heads,
                                 config_.model.window) == AttentionAlgorithm::kAllToAll)
    shape.queries = share_.positions * ranks;
  return describe(fused_parts(config_.model, shape));
}

std::string StepGradient::describe_exchange() const {
  if (mesh_.shape().sequence == 1) return {};
  const AttentionAlgorithm attention = choose_attention_algorithm(
      config_.parallel.attention, mesh_.shape().sequence, config_.model.heads, config_.model.window);
  return cat(
      "attention by ", name_of(attention),
      config_.parallel.attention == "auto" ? cat(" (", reason_of(attention), ")") : " (as configured)");
}

}  // namespace fwl
