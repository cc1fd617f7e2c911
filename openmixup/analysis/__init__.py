"""Pictures and measurements, as functions; the tools are thin doors to them."""
