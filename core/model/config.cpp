#include "core/model/config.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/kernels/likely_tokens.h"

namespace fwl {
namespace {

// Where the decay nearest to 1 starts.
double slowest_start(const FastWeightConfig& f) {
  return f.decay_heads > 1 ? std::max(f.decay_init, f.decay_init_slowest) : f.decay_init;
}

}  // namespace

void FastWeightConfig::visit_fields(FieldList& list) {
  list.add_choice(
      "update", update, {"absent", "none", "slow_gradient"},
      "none: step size zero, the parameter-matched static control; absent: an ordinary transformer, "
      "whose last block meets the output norm without the layer between them");
  list.add("width", width, "hidden width of the layer; 0: 4 x model.width", at_least(0));
  list.add(
      "chunk", chunk,
      "tokens per chunk of the linear attention; changes speed and memory, not the result; 0: by the length, "
      "the width and the device",
      at_least(0));
  list.add("residual", residual, "residual connection around the block (published form: false)");
  list.add("input_norm", input_norm, "layer norm before the block (published form: false)");
  list.add("fast_biases", fast_biases, "biases of the dense layers are fast weights too");
  list.add("fast_norm", fast_norm,
           "scale and bias of the output norm are fast weights too (published form: true)");
  list.add_choice("fast_layers", fast_layers, {"both", "second"},
                  "which dense layers are fast (published form: both)");
  list.add_choice("step_size", step_size, {"scalar", "row"},
                  "one inner step size per layer, or one per output row");
  list.add_choice("step_size_space", step_size_space, {"log", "linear"},
                  "trained as a logarithm, or as it is (published form: linear)");
  list.add("step_size_init", step_size_init,
           "initial step size times model.width (log), or the step size itself (linear)",
           between(1e-12, 1e6));
  list.add("decay_init", decay_init, "initial decay of the fast weights per token; 1: no decay, not trained",
           between(1e-6, 1.0));
  list.add(
      "decay_max", decay_max,
      "what the trained decay stays below; 0: 1 - 1/context, so that a carried state weighs no more tokens "
      "than training shows; 1: no bound",
      between(0.0, 1.0));
  list.add(
      "decay_heads", decay_heads,
      "heads of hidden units, each with its own decay: several memories side by side, from decay_init to "
      "decay_init_slowest",
      at_least(1));
  list.add("decay_init_slowest", decay_init_slowest, "initial decay of the last of several heads",
           between(1e-6, 1 - 1e-9));
  list.add("second_order", second_order, "gradients flow through the inner gradients; false is an ablation");
  list.add("hessian_threshold", hessian_threshold,
           "second order: logits of tokens of a probability below this are constants in the inner gradients' "
           "probabilities, which saves three products with the vocabulary; 0: exact (published form), 1: all "
           "of them are",
           between(0.0, 1.0));
  list.add("inner_steps", inner_steps,
           "passes at fast weights, each with the gradients of the pass before; 1: those of the slow pass",
           between(1, 8));
  list.add("query_gain", query_gain, "learned gain per input of what the fast weights see");
  list.add_choice(
      "key_norm", key_norm, {"none", "l2", "l2_both"},
      "l2: the fast weights' keys are scaled to the length sqrt(model.width); l2_both: their queries too");
  list.add("learned_start", learned_start,
           "the fast pass starts from the weights plus a trained offset of its own, never decayed");
  list.add_choice(
      "write_gate", write_gate, {"none", "input", "label", "both"},
      "a trained factor of each token's inner gradient, by the layer's input, the label, or both");
  list.add("inner_loss_scale", inner_loss_scale,
           "constant factor of every token's inner loss (never the batch size)");
  list.add("slow_loss_weight", slow_loss_weight, "weight of the slow pass's loss in the training loss",
           at_least(0));
  list.add("document_reset", document_reset,
           "the state is zero at each document's start; false: it is carried from document to document");
}

void ModelConfig::visit_fields(FieldList& list) {
  list.add("layers", layers, "transformer blocks", at_least(0));
  list.add("width", width, "model width", at_least(1));
  list.add("heads", heads, "attention heads", at_least(1));
  list.add("context", context, "tokens per training sequence", at_least(1));
  list.add("window", window, "sliding attention window in tokens; 0: full attention", at_least(0));
  list.add("vocab_size", vocab_size, "vocabulary; 0: the data set's", at_least(0));
  list.add_choice("norm", norm, {"rms", "layer"}, "normalisation of the body");
  list.add_choice("feed_forward", feed_forward, {"squared_relu", "swiglu", "gelu"},
                  "feed-forward of the body (gelu: the tanh form, as GPT-2)");
  list.add("document_mask", document_mask,
           "attention of a packed window stays within each document; else the text before it is context too");
  list.add("feed_forward_ratio", feed_forward_ratio, "hidden width of the feed-forward over model.width",
           at_least(0.1));
  list.add("projection_biases", projection_biases,
           "biases of the body's projections (attention and feed-forward), as GPT-2");
  list.add_choice("positions", positions, {"rotary", "learned"}, "how the body knows positions");
  list.add("max_positions", max_positions, "rows of the learned positions; 0: model.context", at_least(0));
  list.add("rotary_base", rotary_base, "base of the rotary frequencies", at_least(1));
  list.add("tied_embedding", tied_embedding, "input embedding and unembedding share one matrix");
  list.add("unembedding_bias", unembedding_bias, "bias of the logits");
  list.section("fast_weight", fast_weight);
}

int64_t layer_width(const ModelConfig& c) {
  const FastWeightConfig& f = c.fast_weight;
  return !f.has_block() ? 0 : f.width > 0 ? f.width : 4 * c.width;
}

double largest_decay(const ModelConfig& c) {
  const FastWeightConfig& f = c.fast_weight;
  if (f.decay_init >= 1) return 1;
  if (f.decay_max > 0) return f.decay_max;
  return std::max(1 - 1 / static_cast<double>(c.context), (1 + slowest_start(f)) / 2);
}

void validate(const ModelConfig& c) {
  require<ConfigError>(c.width % c.heads == 0, "model.width = ", c.width,
                       " is not divisible by model.heads = ", c.heads,
                       " (every head has the same width). Choose heads that divide the width.");
  require<ConfigError>(c.positions != "rotary" || (c.width / c.heads) % 2 == 0,
                       "model.width / model.heads = ", c.width / c.heads,
                       " is odd (rotary positions rotate pairs). Choose an even head width.");
  require<ConfigError>(c.max_positions == 0 || c.max_positions >= c.context,
                       "model.max_positions = ", c.max_positions, " is below model.context = ", c.context,
                       " (later tokens would have no position). Raise it, or shorten the context.");
  const FastWeightConfig& f = c.fast_weight;
  const int64_t hidden = layer_width(c);
  require<ConfigError>(hidden % f.decay_heads == 0, "model.fast_weight.decay_heads = ", f.decay_heads,
                       " does not divide the layer's ", hidden,
                       " hidden units (heads are equal parts of them). Choose a divisor.");
  require<ConfigError>(f.decay_heads == 1 || f.decay_init < 1,
                       "model.fast_weight.decay_heads = ", f.decay_heads,
                       " with decay_init = 1 (without decay all heads are alike). Set decay_init below 1, or "
                       "decay_heads=1.");
  const double slowest = slowest_start(f);
  require<ConfigError>(
      f.decay_init >= 1 || slowest < largest_decay(c), "model.fast_weight.decay_max = ", f.decay_max,
      " is not above ", slowest,
      ", where a decay starts (training moves it below the bound alone). Raise decay_max, or "
      "start lower (decay_init, decay_init_slowest).");
  require<ConfigError>(f.inner_steps == 1 || !f.fast_norm, "model.fast_weight.inner_steps = ", f.inner_steps,
                       " with fast_norm is not built (the norm's gradients would be of weights that differ "
                       "from token to token). Set inner_steps=1 or fast_norm=false.");
  require<ConfigError>(c.fast_weight.step_size_space == "linear" || c.fast_weight.step_size_init > 0,
                       "model.fast_weight.step_size_init must be above 0 in log space.");
  const double threshold = c.fast_weight.hessian_threshold;
  require<ConfigError>(threshold == 0 || !c.fast_weight.learns() || !c.fast_weight.second_order ||
                           likely_places(c.vocab_size, threshold) <= kMostLikelyPlaces,
                       "model.fast_weight.hessian_threshold = ", threshold, " keeps lists of up to ",
                       likely_places(c.vocab_size, threshold),
                       " tokens for every position (12 bytes each, which are sorted). Set ", "at least ",
                       1.0 / (kMostLikelyPlaces - 1), ", or 0 for all of the Hessian.");
}

}  // namespace fwl
