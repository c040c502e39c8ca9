# What cpack runs before it packs: Debian's form for what CMake installed. Each package stands in a directory of its own.
file(GLOB packages LIST_DIRECTORIES true ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*)
string(TIMESTAMP now "%a, %d %b %Y %H:%M:%S +0000" UTC)
foreach(stage IN LISTS packages)
  get_filename_component(package ${stage} NAME)
  set(doc ${stage}/usr/share/doc/${package})
  file(MAKE_DIRECTORY ${doc})
  file(COPY_FILE ${CPACK_APIKEYD_DEBIAN}/copyright ${doc}/copyright)
  file(WRITE ${doc}/changelog
"${package} (${CPACK_PACKAGE_VERSION}) unstable; urgency=medium

  * Version ${CPACK_PACKAGE_VERSION}; the repository's log says what changed.

 -- ${CPACK_PACKAGE_CONTACT}  ${now}
")
  file(GLOB pages ${stage}/usr/share/man/man*/*)
  foreach(file IN LISTS pages ITEMS ${doc}/changelog)
    execute_process(COMMAND gzip -9n ${file} COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
  file(GLOB_RECURSE files LIST_DIRECTORIES true ${stage}/*)
  foreach(file IN LISTS files)
    if(IS_SYMLINK ${file})
      continue()
    endif()
    # Whatever umask the checkout was made with.
    if(IS_DIRECTORY ${file} OR file MATCHES "/s?bin/[^/]+$")
      file(CHMOD ${file} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
    else()
      file(CHMOD ${file} PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
    endif()
  endforeach()
endforeach()
