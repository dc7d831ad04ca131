// What `fwl inspect` says of data sets, shards and tokenizers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace fwl {

// The folder with the manifest: the path itself, or the one above a split.
std::string dataset_folder(const std::string& path);

// Whether a folder is a checkpoint's, or holds the manifest of a data set (whose name is the same).
bool is_checkpoint_folder(const std::string& folder);
bool is_dataset_folder(const std::string& folder);
bool looks_like_dataset(const std::string& path);
bool looks_like_shard(const std::string& path);
bool looks_like_tokenizer(const std::string& path);

// Throw DataError for a damaged one.
nlohmann::json describe_dataset(const std::string& path);
nlohmann::json describe_shard(const std::string& path);
nlohmann::json describe_tokenizer(const std::string& path);

}  // namespace fwl
