// A small model with optimizer moments, saved and loaded as a run would.
#pragma once

#include <string>

#include "checkpoints/checkpoint.h"
#include "core/optim/adamw.h"
#include "tests/support/small_model.h"

namespace fwl {

struct SavedModel {
  LanguageModel model;
  AdamW optimizer;
  explicit SavedModel(uint64_t seed)
      : model(small_model_config(), at::kCPU, at::kFloat, seed), optimizer(model.parameters(), {}) {
    at::manual_seed(static_cast<int64_t>(seed));
    optimizer.first_moments().normal_();
    optimizer.second_moments().normal_().abs_();
  }

  static CheckpointInfo info_at(int64_t step, int64_t ranks = 1) {
    CheckpointInfo info;
    info.progress.step = step;
    info.progress.samples = 8 * step;
    info.progress.loss_sum = 0.1 + 0.2;
    info.data = {0x0123456789ABCDEF, ~uint64_t{0}, 7, 0, 0, {}, {}, {}};
    info.learning_rate = {1e-3 / 3, 1e-3, 10, 100, 0.1};
    info.layout.ranks = ranks;
    info.config_yaml = "a: 1\n";
    info.tokenizer_kind = "byte";
    return info;
  }

  // What rank `rank` of `ranks` owns.
  std::vector<SliceBlock> blocks(int rank, int ranks) {
    const ElementRange range = part_of({0, model.parameters().count()}, rank, ranks);
    const auto own = [&](const Tensor& flat) { return flat.detach().narrow(0, range.first, range.count); };
    return {flat_block("weights", model.parameters(), {range}, own(model.parameters().values())),
            flat_block("first_moments", model.parameters(), {range}, own(optimizer.first_moments())),
            flat_block("second_moments", model.parameters(), {range}, own(optimizer.second_moments()))};
  }

  std::string save(const std::string& dir, int64_t step, Retention retention = {}, int ranks = 1) {
    const std::string writing = prepare_checkpoint(dir, step);
    for (int rank = 0; rank < ranks; ++rank) write_part(writing, rank, blocks(rank, ranks));
    return publish_checkpoint(dir, info_at(step, ranks), retention);
  }
  void load(const std::string& path) {
    read_checkpoint_tensors(path, model.parameters(), &optimizer.first_moments(),
                            &optimizer.second_moments());
  }
  bool same_as(SavedModel& other) {
    return at::equal(model.parameters().values(), other.model.parameters().values()) &&
           at::equal(optimizer.first_moments(), other.optimizer.first_moments()) &&
           at::equal(optimizer.second_moments(), other.optimizer.second_moments());
  }
};

}  // namespace fwl
