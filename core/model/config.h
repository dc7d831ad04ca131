// Shape and options of the language model: transformer body, Fast Weight Layer on top, unembedding.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/config.h"

namespace fwl {

struct FastWeightConfig {
  std::string update = "slow_gradient";
  int64_t width = 0;
  int64_t chunk = 0;
  bool residual = true;
  bool input_norm = true;
  bool fast_biases = false;
  bool fast_norm = false;
  std::string fast_layers = "second";
  std::string step_size = "row";
  std::string step_size_space = "log";
  double step_size_init = 2.0;
  double decay_init = 0.998;
  double decay_max = 0.0;
  int64_t decay_heads = 1;
  double decay_init_slowest = 0.9998;
  bool second_order = true;
  double hessian_threshold = 0.01;
  int64_t inner_steps = 1;
  bool query_gain = false;
  std::string key_norm = "l2";
  bool learned_start = false;
  std::string write_gate = "both";
  double inner_loss_scale = 1.0;
  double slow_loss_weight = 1.0;
  bool document_reset = true;

  bool learns() const { return update == "slow_gradient"; }
  bool has_block() const { return update != "absent"; }
  void visit_fields(FieldList& list);
};

struct ModelConfig {
  int64_t layers = 4;
  int64_t width = 192;
  int64_t heads = 6;
  int64_t context = 1024;
  int64_t window = 0;
  bool document_mask = false;
  int64_t vocab_size = 0;
  std::string norm = "rms";
  std::string feed_forward = "squared_relu";
  double feed_forward_ratio = 4.0;
  bool projection_biases = false;
  std::string positions = "rotary";
  int64_t max_positions = 0;
  double rotary_base = 10000.0;
  bool tied_embedding = true;
  bool unembedding_bias = false;
  FastWeightConfig fast_weight;

  void visit_fields(FieldList& list);
};

// Hidden width of the layer; 0 where the model has none.
int64_t layer_width(const ModelConfig& config);
// What no decay exceeds: decay_max, or by itself 1 - 1/context (a state then weighs at most as many tokens as
// a training sequence has), but never less than halfway from the decays' start to 1. 1 where decay is not
// trained.
double largest_decay(const ModelConfig& config);

// Throws ConfigError for combinations that cannot be built (width not divisible by heads, odd head dim, ...).
void validate(const ModelConfig& config);

}  // namespace fwl
