// Stable 64-bit hashes: results go into files and decide data splits, so they must never change.
#pragma once

#include <cstdint>
#include <string_view>

namespace fwl {

// SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection of 64-bit words with full avalanche.
constexpr uint64_t mix_bits(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// FNV-1a over the bytes, then mix_bits. Not cryptographic: it detects accidents, not forgers.
constexpr uint64_t hash_bytes(std::string_view bytes, uint64_t seed = 0xCBF29CE484222325ull) {
  uint64_t h = seed;
  for (const char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return mix_bits(h);
}

}  // namespace fwl
