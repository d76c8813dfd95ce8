mod pair;
mod power;
