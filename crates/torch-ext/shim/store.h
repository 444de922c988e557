// c10d's TCPStore behind a handle.
#pragma once

#include "shim.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

struct te_store {
  c10::intrusive_ptr<c10d::TCPStore> store;
};
