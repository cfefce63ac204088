"""The LLVM IR of the quick way into programs: see `dispatch.py`, which fills in offsets and tells the linker where
CPython's and NumPy's functions and types are.
"""

IR = """
@ndarray = external global i8
@not_implemented = external global i8
@false = external global i8
declare void @incref(ptr)
declare void @decref(ptr)
declare ptr @new_from_descr(ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)
declare ptr @new_tuple(i64)
declare i32 @set_item(ptr, i64, ptr)
declare ptr @list_get(ptr, i64)
declare i32 @list_set(ptr, i64, ptr)
declare ptr @save_thread()
declare void @restore_thread(ptr)
declare ptr @new_object(ptr, i64)

; The array in an object of the class of boxes; any other object as it is.
define internal ptr @unboxed(ptr %object, ptr %descriptor) alwaysinline {{
  %type_at = getelementptr i8, ptr %object, i64 {TYPE}
  %type = load ptr, ptr %type_at
  %box_at = getelementptr i64, ptr %descriptor, i64 {BOX}
  %box = load ptr, ptr %box_at
  %is_box = icmp eq ptr %type, %box
  br i1 %is_box, label %open, label %plain
open:
  %slot_at = getelementptr i64, ptr %descriptor, i64 {BOX_ARRAY}
  %slot = load i64, ptr %slot_at
  %array_at = getelementptr i8, ptr %object, i64 %slot
  %array = load ptr, ptr %array_at
  %empty = icmp eq ptr %array, null
  br i1 %empty, label %plain, label %found
found:
  ret ptr %array
plain:
  ret ptr %object
}}

; A new box, whose array is stored later: null where there is no memory.
define internal ptr @new_box(ptr %descriptor) alwaysinline {{
  %box_at = getelementptr i64, ptr %descriptor, i64 {BOX}
  %box = load ptr, ptr %box_at
  %made = call ptr @new_object(ptr %box, i64 0)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %out, label %fill
fill:
  %flag_at = getelementptr i64, ptr %descriptor, i64 {BOX_FLAG}
  %flag = load i64, ptr %flag_at
  %slot = getelementptr i8, ptr %made, i64 %flag
  call void @incref(ptr @false)
  store ptr @false, ptr %slot
  br label %out
out:
  ret ptr %made
}}

define internal void @put(ptr %descriptor, ptr %box, ptr %array) alwaysinline {{
  %slot_at = getelementptr i64, ptr %descriptor, i64 {BOX_ARRAY}
  %slot = load i64, ptr %slot_at
  %array_at = getelementptr i8, ptr %box, i64 %slot
  store ptr %array, ptr %array_at
  ret void
}}

define internal i1 @fits(ptr %array, ptr %row) alwaysinline {{
  %type_at = getelementptr i8, ptr %array, i64 {TYPE}
  %type = load ptr, ptr %type_at
  %is_array = icmp eq ptr %type, @ndarray
  br i1 %is_array, label %header, label %no
header:
  %rank_at = getelementptr i8, ptr %array, i64 {RANK}
  %rank32 = load i32, ptr %rank_at
  %rank = sext i32 %rank32 to i64
  %wanted_rank = load i64, ptr %row
  %same_rank = icmp eq i64 %rank, %wanted_rank
  %descr_at = getelementptr i8, ptr %array, i64 {DESCR}
  %descr = load i64, ptr %descr_at
  %wanted_descr_at = getelementptr i64, ptr %row, i64 2
  %wanted_descr = load i64, ptr %wanted_descr_at
  %same_descr = icmp eq i64 %descr, %wanted_descr
  %flags_at = getelementptr i8, ptr %array, i64 {FLAGS}
  %flags = load i32, ptr %flags_at
  %set = and i32 %flags, {CONTIGUOUS}
  %dense = icmp eq i32 %set, {CONTIGUOUS}
  %a = and i1 %same_rank, %same_descr
  %b = and i1 %a, %dense
  br i1 %b, label %extents, label %no
extents:
  %shape_at = getelementptr i8, ptr %array, i64 {SHAPE}
  %shape = load ptr, ptr %shape_at
  %wanted_at = getelementptr i64, ptr %row, i64 1
  %wanted = load ptr, ptr %wanted_at
  br label %next
next:
  %k = phi i64 [ 0, %extents ], [ %k1, %equal ]
  %done = icmp eq i64 %k, %rank
  br i1 %done, label %yes, label %compare
compare:
  %e_at = getelementptr i64, ptr %shape, i64 %k
  %e = load i64, ptr %e_at
  %w_at = getelementptr i64, ptr %wanted, i64 %k
  %w = load i64, ptr %w_at
  %same = icmp eq i64 %e, %w
  br i1 %same, label %equal, label %no
equal:
  %k1 = add i64 %k, 1
  br label %next
yes:
  ret i1 true
no:
  ret i1 false
}}

; The last array of a result that is kept, if nobody else holds it and it is as it was made: else null. Of a count of
; references all versions of CPython have the lowest 32 bits here.
define internal ptr @spare(ptr %row, ptr %list, i64 %place) alwaysinline {{
  %array = call ptr @list_get(ptr %list, i64 %place)
  %count = load i32, ptr %array
  %alone = icmp eq i32 %count, 1
  br i1 %alone, label %compare, label %no
compare:
  %same = call i1 @fits(ptr %array, ptr %row)
  br i1 %same, label %own, label %no
own:
  %flags_at = getelementptr i8, ptr %array, i64 {FLAGS}
  %flags = load i32, ptr %flags_at
  %set = and i32 %flags, {OWNED}
  %whole = icmp eq i32 %set, {OWNED}
  br i1 %whole, label %yes, label %no
yes:
  call void @incref(ptr %array)
  ret ptr %array
no:
  ret ptr null
}}

define internal ptr @fresh(ptr %row) alwaysinline {{
  %rank = load i64, ptr %row
  %rank32 = trunc i64 %rank to i32
  %shape_at = getelementptr i64, ptr %row, i64 1
  %shape = load ptr, ptr %shape_at
  %descr_at = getelementptr i64, ptr %row, i64 2
  %descr = load ptr, ptr %descr_at
  call void @incref(ptr %descr)
  %array = call ptr @new_from_descr(
    ptr @ndarray, ptr %descr, i32 %rank32, ptr %shape, ptr null, ptr null, i32 0, ptr null)
  ret ptr %array
}}

; An array for a result, in its slot: null where there is no memory.
define internal ptr @allocate(ptr %row, ptr %descriptor, ptr %table) alwaysinline {{
  %place_at = getelementptr i64, ptr %row, i64 4
  %place = load i64, ptr %place_at
  %list_at = getelementptr i64, ptr %descriptor, i64 {KEPT}
  %list = load ptr, ptr %list_at
  %kept = icmp sge i64 %place, 0
  br i1 %kept, label %look, label %make
look:
  %last = call ptr @spare(ptr %row, ptr %list, i64 %place)
  %missing = icmp eq ptr %last, null
  br i1 %missing, label %make, label %bind
make:
  %made = call ptr @fresh(ptr %row)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %out, label %keep
keep:
  br i1 %kept, label %put, label %bind
put:
  call void @incref(ptr %made)
  %ignored = call i32 @list_set(ptr %list, i64 %place, ptr %made)
  br label %bind
bind:
  %array = phi ptr [ %last, %look ], [ %made, %keep ], [ %made, %put ]
  %data_at = getelementptr i8, ptr %array, i64 {DATA}
  %data = load ptr, ptr %data_at
  %slot_at = getelementptr i64, ptr %row, i64 3
  %slot = load i64, ptr %slot_at
  %entry = getelementptr ptr, ptr %table, i64 %slot
  store ptr %data, ptr %entry
  ret ptr %array
out:
  ret ptr null
}}

; Take all locks, or none. Their words are two i32: how many readers hold it or -1, and whether somebody waits; and an
; i64: the version of what it guards, which is counted up when a writer lets go.
define internal i1 @lock(ptr %descriptor) alwaysinline {{
  %rows_at = getelementptr i64, ptr %descriptor, i64 {LOCK_ROWS}
  %rows = load ptr, ptr %rows_at
  %written_at = getelementptr i64, ptr %descriptor, i64 {WRITTEN}
  %written = load i64, ptr %written_at
  %count_at = getelementptr i64, ptr %descriptor, i64 {LOCKS}
  %count = load i64, ptr %count_at
  br label %write
write:
  %i = phi i64 [ 0, %0 ], [ %i1, %hold ]
  %all_written = icmp eq i64 %i, %written
  br i1 %all_written, label %read, label %look
look:
  %row = getelementptr ptr, ptr %rows, i64 %i
  %words = load ptr, ptr %row
  %both = load i64, ptr %words
  %free = icmp eq i64 %both, 0
  br i1 %free, label %hold, label %no
hold:
  store i32 -1, ptr %words
  %i1 = add i64 %i, 1
  br label %write
read:
  %j = phi i64 [ %written, %write ], [ %j1, %share ]
  %all = icmp eq i64 %j, %count
  br i1 %all, label %yes, label %look_too
look_too:
  %row_too = getelementptr ptr, ptr %rows, i64 %j
  %words_too = load ptr, ptr %row_too
  %both_too = load i64, ptr %words_too
  %open = icmp ult i64 %both_too, 2147483647
  br i1 %open, label %share, label %no
share:
  %readers = trunc i64 %both_too to i32
  %one_more = add i32 %readers, 1
  store i32 %one_more, ptr %words_too
  %j1 = add i64 %j, 1
  br label %read
yes:
  ret i1 true
no:
  %taken = phi i64 [ %i, %look ], [ %j, %look_too ]
  call void @unlock(ptr %descriptor, i64 %taken)
  ret i1 false
}}

; Let go of the first `count` locks.
define internal void @unlock(ptr %descriptor, i64 %count) alwaysinline {{
  %rows_at = getelementptr i64, ptr %descriptor, i64 {LOCK_ROWS}
  %rows = load ptr, ptr %rows_at
  %written_at = getelementptr i64, ptr %descriptor, i64 {WRITTEN}
  %written = load i64, ptr %written_at
  br label %next
next:
  %i = phi i64 [ 0, %0 ], [ %i1, %free ], [ %i1, %leave ]
  %all = icmp eq i64 %i, %count
  br i1 %all, label %out, label %drop
drop:
  %row = getelementptr ptr, ptr %rows, i64 %i
  %words = load ptr, ptr %row
  %write = icmp ult i64 %i, %written
  %i1 = add i64 %i, 1
  br i1 %write, label %free, label %leave
free:
  %version_at = getelementptr i64, ptr %words, i64 1
  %version = load i64, ptr %version_at
  %following = add i64 %version, 1
  store i64 %following, ptr %version_at
  store i32 0, ptr %words
  br label %next
leave:
  %readers = load i32, ptr %words
  %one_less = sub i32 %readers, 1
  store i32 %one_less, ptr %words
  br label %next
out:
  ret void
}}

define internal void @unlock_all(ptr %descriptor) alwaysinline {{
  %count_at = getelementptr i64, ptr %descriptor, i64 {LOCKS}
  %count = load i64, ptr %count_at
  call void @unlock(ptr %descriptor, i64 %count)
  ret void
}}

; Are all versions as they must be?
define internal i1 @unchanged(ptr %descriptor) alwaysinline {{
  %count_at = getelementptr i64, ptr %descriptor, i64 {VERSIONS}
  %count = load i64, ptr %count_at
  %rows_at = getelementptr i64, ptr %descriptor, i64 {VERSION_ROWS}
  %rows = load ptr, ptr %rows_at
  br label %next
next:
  %i = phi i64 [ 0, %0 ], [ %i1, %same ]
  %all = icmp eq i64 %i, %count
  br i1 %all, label %out, label %look
look:
  %at = mul i64 %i, 2
  %row = getelementptr i64, ptr %rows, i64 %at
  %where = load ptr, ptr %row
  %found = load i64, ptr %where
  %wanted_at = getelementptr i64, ptr %row, i64 1
  %wanted = load i64, ptr %wanted_at
  %equal = icmp eq i64 %found, %wanted
  br i1 %equal, label %same, label %out
same:
  %i1 = add i64 %i, 1
  br label %next
out:
  ret i1 %all
}}

define internal void @run(ptr %descriptor, ptr %table) alwaysinline {{
  %busy = getelementptr i64, ptr %descriptor, i64 {BUSY}
  store i64 1, ptr %busy
  %step_at = getelementptr i64, ptr %descriptor, i64 {STEP}
  %step = load ptr, ptr %step_at
  %state = call ptr @save_thread()
  call void %step(ptr %table)
  call void @restore_thread(ptr %state)
  store i64 0, ptr %busy
  call void @unlock_all(ptr %descriptor)
  ret void
}}

define ptr @tw_call(ptr %self, ptr %arguments, i64 %given) {{
  %result = call ptr @enter(ptr %self, ptr %arguments, i64 %given, i1 false)
  ret ptr %result
}}

; For programs with one result, which is given in a box.
define ptr @tw_call_boxed(ptr %self, ptr %arguments, i64 %given) {{
  %result = call ptr @enter(ptr %self, ptr %arguments, i64 %given, i1 true)
  ret ptr %result
}}

define internal ptr @enter(ptr %self, ptr %arguments, i64 %given, i1 %boxed) alwaysinline {{
  %self_at = getelementptr i8, ptr %self, i64 {BYTES_DATA}
  %descriptor = load ptr, ptr %self_at
  %count = load i64, ptr %descriptor
  %same_count = icmp eq i64 %count, %given
  %busy_at = getelementptr i64, ptr %descriptor, i64 {BUSY}
  %busy = load i64, ptr %busy_at
  %free = icmp eq i64 %busy, 0
  %start = and i1 %same_count, %free
  br i1 %start, label %bind, label %otherwise
bind:
  %table_at = getelementptr i64, ptr %descriptor, i64 {TABLE}
  %table = load ptr, ptr %table_at
  %rows_at = getelementptr i64, ptr %descriptor, i64 {ARGUMENT_ROWS}
  %rows = load ptr, ptr %rows_at
  br label %next
next:
  %i = phi i64 [ 0, %bind ], [ %i1, %store ]
  %bound = icmp eq i64 %i, %count
  br i1 %bound, label %locks, label %check
check:
  %object_at = getelementptr ptr, ptr %arguments, i64 %i
  %given_object = load ptr, ptr %object_at
  %object = call ptr @unboxed(ptr %given_object, ptr %descriptor)
  %offset = mul i64 %i, {ROW}
  %row = getelementptr i64, ptr %rows, i64 %offset
  %ok = call i1 @fits(ptr %object, ptr %row)
  br i1 %ok, label %store, label %otherwise
store:
  %data_at = getelementptr i8, ptr %object, i64 {DATA}
  %data = load ptr, ptr %data_at
  %slot_at = getelementptr i64, ptr %row, i64 3
  %slot = load i64, ptr %slot_at
  %entry = getelementptr ptr, ptr %table, i64 %slot
  store ptr %data, ptr %entry
  %i1 = add i64 %i, 1
  br label %next
locks:
  %locked = call i1 @lock(ptr %descriptor)
  br i1 %locked, label %versions, label %otherwise
versions:
  %current = call i1 @unchanged(ptr %descriptor)
  br i1 %current, label %results, label %stale
stale:
  call void @unlock_all(ptr %descriptor)
  br label %otherwise
results:
  %wanted_at = getelementptr i64, ptr %descriptor, i64 {RESULTS}
  %wanted = load i64, ptr %wanted_at
  %result_rows_at = getelementptr i64, ptr %descriptor, i64 {RESULT_ROWS}
  %result_rows = load ptr, ptr %result_rows_at
  %one = icmp eq i64 %wanted, 1
  br i1 %one, label %single, label %several
single:
  %array = call ptr @allocate(ptr %result_rows, ptr %descriptor, ptr %table)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %error, label %allocated
allocated:
  br i1 %boxed, label %box, label %run_single
run_single:
  call void @run(ptr %descriptor, ptr %table)
  ret ptr %array
box:
  %made = call ptr @new_box(ptr %descriptor)
  %no_box = icmp eq ptr %made, null
  br i1 %no_box, label %drop_array, label %run_boxed
run_boxed:
  call void @put(ptr %descriptor, ptr %made, ptr %array)
  call void @run(ptr %descriptor, ptr %table)
  ret ptr %made
drop_array:
  call void @decref(ptr %array)
  br label %error
several:
  %tuple = call ptr @new_tuple(i64 %wanted)
  %no_tuple = icmp eq ptr %tuple, null
  br i1 %no_tuple, label %error, label %fill
fill:
  %j = phi i64 [ 0, %several ], [ %j1, %keep ]
  %filled = icmp eq i64 %j, %wanted
  br i1 %filled, label %run_several, label %make
make:
  %place = mul i64 %j, {ROW}
  %result_row = getelementptr i64, ptr %result_rows, i64 %place
  %item = call ptr @allocate(ptr %result_row, ptr %descriptor, ptr %table)
  %none = icmp eq ptr %item, null
  br i1 %none, label %drop, label %keep
keep:
  %ignored = call i32 @set_item(ptr %tuple, i64 %j, ptr %item)
  %j1 = add i64 %j, 1
  br label %fill
run_several:
  call void @run(ptr %descriptor, ptr %table)
  ret ptr %tuple
drop:
  call void @decref(ptr %tuple)
  br label %error
error:
  call void @unlock_all(ptr %descriptor)
  ret ptr null
otherwise:
  call void @incref(ptr @not_implemented)
  ret ptr @not_implemented
}}
"""
