"""Operations on plain tensors: no modules and no parameters."""
