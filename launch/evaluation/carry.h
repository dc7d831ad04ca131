// How far the carried modes' fast weights go on before they start from zero again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fwl {

struct Carry {
  enum class Scope { kDocument, kStream };  // ends with the document, or with the stream of documents
  Scope scope = Scope::kDocument;
  int64_t tokens = 0;  // that a state learns from at most; 0: the whole scope

  bool operator==(const Carry& other) const { return scope == other.scope && tokens == other.tokens; }
};

// "document", "stream", "2048" (of a document), "stream:2048". Throws ConfigError for anything else.
Carry parse_carry(const std::string& text);
std::string to_string(const Carry& carry);
// Comma-separated, each once; one at least.
std::vector<Carry> parse_carry_list(const std::string& text);
// Throws ConfigError unless whole windows of `context` tokens make up the limit.
void check_carry(const Carry& carry, int64_t context);

}  // namespace fwl
