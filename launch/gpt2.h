// A Hugging Face GPT-2 (config.json, model.safetensors) as a model of ours, under a Fast Weight Layer whose
// slow pass starts as the identity: the slow logits are GPT-2's (Radford et al. 2019).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/model/language_model.h"
#include "launch/run_config.h"

namespace fwl {

struct Gpt2Import {
  RunConfig config;
  std::unique_ptr<LanguageModel> model;  // on the CPU, float32
};

// `settings` ("a.b=c") go into the run's config; those that would change GPT-2's own shape throw ConfigError.
// The layer's own weights are initialised from train.seed. Throws DataError for a folder that is no GPT-2, or
// one with parts that this program does not have.
Gpt2Import import_gpt2(const std::string& folder, const std::vector<std::string>& settings);
// The run's config alone, without reading a weight: what is refused there costs nothing. Throws as above.
RunConfig config_of_gpt2(const std::string& folder, const std::vector<std::string>& settings);

// Files beside the weights that say which tokens the model's ids are, by name: vocab.json, tokenizer.model,
// ...
std::vector<std::string> tokenizer_files(const std::string& folder);

}  // namespace fwl
