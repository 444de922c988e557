// c10d's TCPStore: where NCCL's ranks leave each other the keys of their communicator.

#include "store.h"

#include <algorithm>

extern "C" {

// With `is_server` opens the store on `port` (0: a free one), else connects to it.
char* te_store_new(const char* host, uint16_t port, bool is_server, int64_t timeout_ms, te_store** out) {
  TE_CATCH({
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *out = new te_store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  })
}

uint16_t te_store_port(te_store* store) { return store->store->getPort(); }

char* te_store_set(te_store* store, const char* key, const uint8_t* value, size_t length) {
  TE_CATCH(store->store->set(key, std::vector<uint8_t>(value, value + length)))
}

// Waits for `key`; `length` becomes how many bytes its value has, and `capacity` must suffice for them.
char* te_store_get(te_store* store, const char* key, uint8_t* value, size_t capacity, size_t* length) {
  TE_CATCH({
    auto bytes = store->store->get(key);
    TORCH_CHECK(bytes.size() <= capacity, "the value of ", key, " has ", bytes.size(), " bytes, more than ", capacity);
    *length = bytes.size();
    std::copy(bytes.begin(), bytes.end(), value);
  })
}

void te_store_free(te_store* store) { delete store; }

}  // extern "C"
