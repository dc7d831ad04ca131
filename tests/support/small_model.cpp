#include "tests/support/small_model.h"

#include <ATen/CPUGeneratorImpl.h>

namespace fwl {

ModelConfig small_model_config() {
  ModelConfig c;
  c.layers = 2;
  c.width = 16;
  c.heads = 2;
  c.context = 24;
  c.window = 8;
  c.vocab_size = 31;
  c.fast_weight.chunk = 5;
  c.fast_weight.step_size_init = 50;
  // The layer as the paper has it, all of its tensors and no more; tests of what came to it add that.
  c.fast_weight.fast_layers = "both";
  c.fast_weight.hessian_threshold = 0;
  c.fast_weight.key_norm = "none";
  c.fast_weight.write_gate = "none";
  return c;
}

TokenBatch random_batch(const ModelConfig& config, int64_t rows, int64_t length, at::ScalarType accumulation,
                        uint64_t seed, const std::vector<int64_t>& documents) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const Tensor tokens =
      at::randint(config.vocab_size, {rows, length + 1}, generator, at::TensorOptions().dtype(at::kLong));
  TokenBatch batch{tokens.narrow(1, 0, length),
                   tokens.narrow(1, 1, length),
                   at::ones({rows, length}, at::TensorOptions().dtype(accumulation)),
                   {}};
  if (documents.empty()) return batch;
  batch.document_start_bt = at::zeros({rows, length}, at::TensorOptions().dtype(at::kBool));
  for (const int64_t t : documents) batch.document_start_bt.select(1, t).fill_(true);
  return batch;
}

}  // namespace fwl
