"""The value types that everybody shares: which weights there are (`MaskLayout`) and which are kept (`PackedMasks`)."""
