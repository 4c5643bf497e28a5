fn main() { println!("understudy"); }
